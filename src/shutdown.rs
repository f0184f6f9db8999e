//! Long-lived tasks and how they end: one named set, one token that is passed.
