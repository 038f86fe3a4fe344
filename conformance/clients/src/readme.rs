//! The commands that README.md gives, to be run as they stand there.

/// README.md.
pub const README: &str = include_str!("../../../README.md");

/// The first block of commands or configuration that has `words` in it.
#[track_caller]
pub fn block(words: &str) -> String {
    let blocks = README.split("\n```").skip(1).step_by(2);
    let block = blocks.into_iter().find(|block| block.contains(words));
    let block = block.unwrap_or_else(|| panic!("README.md has no block with {words:?}"));
    // Its first line is the language's name.
    block.split_once('\n').expect("a block has lines").1.to_owned()
}
