"""What a setting names by number: textures, environment maps, rooms and tables, all made by procedure from that number."""
