"""What the room does: recommends, keeps models loaded, takes artifacts in."""
