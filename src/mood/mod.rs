//! The mood of the day: the catalogue, days and time zones, and everything that is made from a mood.

pub mod catalogue;
pub mod day;
pub mod entry;
pub mod gif;
pub mod page;
pub mod service;
pub mod zone;
