"""What the room does: decides, and tries decisions out."""
