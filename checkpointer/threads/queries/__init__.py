"""The statements of this room: SQL in the `.sql` files, one typed function per statement in the modules beside them."""
