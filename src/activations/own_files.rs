//! Which files in a folder are a harvest's.

use super::after::is_marks;
use super::manifest::{NAME, is_shard};
use super::plan::is_of_plan;
use super::ranges::is_ranges;
use super::sidecar::is_sidecar;
use crate::corpus::TextRecord;

/// Whether a temporary file for `target` is one that a harvest leaves when it is killed.
pub fn is_own(target: &str) -> bool {
    target == NAME
        || target == TextRecord::NAME
        || is_shard(target)
        || is_marks(target)
        || is_sidecar(target)
        || is_ranges(target)
        || is_of_plan(target)
}
