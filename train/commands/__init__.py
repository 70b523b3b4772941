"""What each command of ``comhe`` does: a function of the words behind it."""
