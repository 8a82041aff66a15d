"""`corral up`: all of Corral's services on this machine, from the entry points that containers use.

`plan` says what to start, `supervisor` keeps it running, `lock` keeps a second one away.
"""
