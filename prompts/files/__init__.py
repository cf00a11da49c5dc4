"""From files to checked drafts."""
