//! The dispatcher, with a plugin that records what it was asked.
