"""Labelling tools and the people in front of them, for tests: tasks to export, and what each tool would export back."""
