-- Answers the last row: whatever is appended from here on gets a higher one.
return tell(seq)
