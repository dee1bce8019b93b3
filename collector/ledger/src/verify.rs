//! Walking whole streams and naming what is wrong.
