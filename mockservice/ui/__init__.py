"""`mockservice ui`: a page that shows requests as they run through the lanes."""
