"""The command ``comhe``, one file a command."""
