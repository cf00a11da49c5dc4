"""Flows in several processes on one database, whose workers, connections and server die; and what must hold after."""
