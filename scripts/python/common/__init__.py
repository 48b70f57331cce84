"""What the preparation and export scripts share: errors, files."""
