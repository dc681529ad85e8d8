"""What shows and changes nothing: `list-builds`, `show`, `status`, `doctor`."""
