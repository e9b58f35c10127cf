"""`mockservice ui`: one page on which requests are seen to run through the lanes."""
