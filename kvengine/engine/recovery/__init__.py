"""From files to an index that reads them; checking, copying and saving what is there."""
