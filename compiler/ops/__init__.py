"""The operator table, one family of operators a file."""
