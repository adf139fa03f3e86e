//! Writing the log in other programs' formats.
