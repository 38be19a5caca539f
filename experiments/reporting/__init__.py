"""What a person reads: tables, pictures and files."""
