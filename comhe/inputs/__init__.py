"""One image or one point cloud of any origin, as an array: what training reads and what ``predict`` takes."""
