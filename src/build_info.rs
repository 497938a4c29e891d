//! Name, version and origin of this binary.

pub const NAME: &str = env!("CARGO_PKG_NAME");
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The git commit, or `unknown` where the build knew none. Set by build.rs.
pub const COMMIT: &str = env!("MOOD_COMMIT");
/// The target triple. Set by build.rs.
pub const TARGET: &str = env!("MOOD_TARGET");
/// `prebuilt` if the standard library could not be built from source (scripts/lib/compile.sh), else empty.
pub const STD: &str = env!("MOOD_STD");
