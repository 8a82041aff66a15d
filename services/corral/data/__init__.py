"""From a user's file to labelled tokens: read, check, render the template, tokenize.

Serves both halves of Corral and so imports neither side's libraries.
"""
