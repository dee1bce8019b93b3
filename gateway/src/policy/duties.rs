//! Does what a permit asks before bytes leave.
