//! The house rules hold for this very tree.

use xtask::tidy::tidy;
use xtask::workspace_root;

#[test]
fn the_tree_is_tidy() {
    let report = tidy(&workspace_root()).expect("the tree can be read");
    assert!(report.passed(), "\n{report}");
}
