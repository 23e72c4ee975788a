"""What people read of a run: charts, pictures and the report."""
