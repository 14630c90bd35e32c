"""Model code: the fast decoder path, and the bundled policy."""
