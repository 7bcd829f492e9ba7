"""What labelling tools read and write. Each module here knows one tool's files and nothing of the store."""
