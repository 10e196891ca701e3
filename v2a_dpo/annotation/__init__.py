"""What people say about candidates."""
