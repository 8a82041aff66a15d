"""Generated from protos/corral/v1 by `make proto`. Never edited by hand."""
