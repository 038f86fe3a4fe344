//! A run as text, JSON, JUnit and HTML.

pub mod html;
pub mod junit;
pub mod text;
