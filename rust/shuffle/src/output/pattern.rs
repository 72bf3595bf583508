//! Names of the files of a set, such as `out-{split}-{index:05d}.jsonl.zst`.
//!
//! The fields are those of Python's `str.format`, as far as they make sense here: `{index}` and
//! `{epoch}`, which may have a format (`:d`, or `:05d` for at least five digits), and `{split}`.
//! `{{` and `}}` stand for braces. Names are bytes; fields only ever add ASCII.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Most digits that a format may ask for: those of the largest number.
const MOST_DIGITS: usize = 20;

/// Most bytes before the first field: the names made from them must fit into a directory.
const MOST_STEM: usize = 200;

/// Something that differs between the files of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Index,
    Split,
    Epoch,
}

#[derive(Clone, Debug)]
enum Token {
    Literal(Vec<u8>),
    /// A number of at least so many digits.
    Number(Field, usize),
    Split,
}

/// A path whose last component has fields.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    dir: PathBuf,
    tokens: Vec<Token>,
    manifest: OsString,
    /// The splits that there are; none if there may be any.
    splits: Vec<String>,
}

fn invalid<T>(text: impl std::fmt::Display) -> Result<T> {
    Err(Error::InvalidArgument(format!("output: {text}")))
}

impl Field {
    fn name(self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::Split => "split",
            Self::Epoch => "epoch",
        }
    }

    fn max(self) -> u64 {
        match self {
            Self::Index => u64::MAX,
            Self::Epoch => u32::MAX.into(),
            Self::Split => 0,
        }
    }
}

impl Pattern {
    /// Reads the fields of `path`.
    pub fn parse(path: &Path) -> Result<Self> {
        let shown = path.display();
        let bytes = path.as_os_str().as_bytes();
        let (dir, name) = match bytes.iter().rposition(|&byte| byte == b'/') {
            Some(at) => bytes.split_at(at + 1),
            None => (&b"./"[..], bytes),
        };
        if matches!(name, b"" | b"." | b"..") {
            return invalid(format_args!("{shown} does not end in the name of a file"));
        }
        let dir = match &tokens(dir)?[..] {
            [Token::Literal(dir)] => PathBuf::from(OsString::from_vec(dir.clone())),
            _ => {
                return invalid(format_args!(
                    "{shown} has a field in the directory; fields may only be in the file's name"
                ));
            }
        };
        let tokens = tokens(name)?;
        let mut manifest = match &tokens[0] {
            Token::Literal(stem) => stem.clone(),
            _ => Vec::new(),
        };
        while let [stem @ .., b'-' | b'_' | b'.'] = &manifest[..] {
            manifest.truncate(stem.len());
        }
        if manifest.len() > MOST_STEM {
            return invalid(format_args!(
                "{shown} has more than {MOST_STEM} bytes before the first field"
            ));
        }
        if !manifest.is_empty() {
            manifest.push(b'.');
        }
        manifest.extend_from_slice(b"manifest.json");
        let pattern = Self {
            dir,
            tokens,
            manifest: OsString::from_vec(manifest),
            splits: Vec::new(),
        };
        if pattern.matches(&pattern.manifest) {
            return invalid(format_args!(
                "{shown} could name a file {}, which is what the manifest of the set is called; \
                 begin the file's name with some other text, or end it with another extension",
                pattern.manifest.display()
            ));
        }
        Ok(pattern)
    }

    /// The same pattern for a set that has these splits.
    pub fn with_splits(self, splits: Vec<String>) -> Self {
        Self { splits, ..self }
    }

    /// Whether names differ by `field`.
    pub fn has(&self, field: Field) -> bool {
        self.tokens.iter().any(|token| token.field() == Some(field))
    }

    /// Whether all names are valid UTF-8.
    pub fn is_utf8(&self) -> bool {
        self.tokens.iter().all(|token| match token {
            Token::Literal(bytes) => std::str::from_utf8(bytes).is_ok(),
            _ => true,
        })
    }

    /// A file's name, without its directory.
    pub fn name(&self, index: u64, split: &str, epoch: u32) -> OsString {
        let mut name = Vec::new();
        for token in &self.tokens {
            match token {
                Token::Literal(bytes) => name.extend_from_slice(bytes),
                Token::Split => name.extend_from_slice(split.as_bytes()),
                Token::Number(field, digits) => {
                    let number = match field {
                        Field::Epoch => epoch.into(),
                        _ => index,
                    };
                    name.extend_from_slice(format!("{number:0digits$}").as_bytes());
                }
            }
        }
        OsString::from_vec(name)
    }

    /// Whether `name` can be made from some index, epoch and split's name, which is one or more of
    /// letters, digits, `_`, `.` and `-`.
    pub fn matches(&self, name: &OsStr) -> bool {
        let name = name.as_bytes();
        !matches!(name, b"." | b"..") && matches(&self.tokens, name, &[])
    }

    /// Whether `name` can be made for this set, which has the splits that it has.
    pub fn claims(&self, name: &OsStr) -> bool {
        let name = name.as_bytes();
        !matches!(name, b"." | b"..") && matches(&self.tokens, name, &self.splits)
    }

    /// The directory that the files are in.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What the manifest of the set is called: the text before the first field, and
    /// `.manifest.json`.
    pub fn manifest_name(&self) -> OsString {
        self.manifest.clone()
    }
}

impl Token {
    fn field(&self) -> Option<Field> {
        match self {
            Self::Literal(_) => None,
            Self::Number(field, _) => Some(*field),
            Self::Split => Some(Field::Split),
        }
    }
}

/// Cuts a format into text and fields; at least one token, unless it is empty.
fn tokens(format: &[u8]) -> Result<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut literal = Vec::new();
    let mut rest = format;
    loop {
        match rest {
            [] => break,
            [b'{', b'{', after @ ..] | [b'}', b'}', after @ ..] => {
                literal.push(rest[0]);
                rest = after;
            }
            [b'{', after @ ..] => {
                let end = after.iter().position(|&byte| matches!(byte, b'{' | b'}'));
                let Some(end) = end.filter(|&end| after[end] == b'}') else {
                    return invalid("a { is not closed; {{ stands for a brace");
                };
                let field = field(&after[..end])?;
                if tokens
                    .iter()
                    .any(|token: &Token| token.field() == field.field())
                {
                    return invalid(format_args!(
                        "the field {{{}}} is there twice",
                        String::from_utf8_lossy(&after[..end])
                    ));
                }
                if !literal.is_empty() {
                    tokens.push(Token::Literal(std::mem::take(&mut literal)));
                }
                tokens.push(field);
                rest = &after[end + 1..];
            }
            [b'}', ..] => return invalid("a } closes nothing; }} stands for a brace"),
            [byte, after @ ..] => {
                literal.push(*byte);
                rest = after;
            }
        }
    }
    if !literal.is_empty() {
        tokens.push(Token::Literal(literal));
    }
    Ok(tokens)
}

/// Reads what is between two braces.
fn field(text: &[u8]) -> Result<Token> {
    let (name, format) = match text.iter().position(|&byte| byte == b':') {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let shown = String::from_utf8_lossy(text);
    let known = [Field::Index, Field::Split, Field::Epoch];
    let Some(field) = known
        .into_iter()
        .find(|field| field.name().as_bytes() == name)
    else {
        return invalid(format_args!(
            "there is no field {{{shown}}}; fields are {{index}}, {{epoch}} and {{split}}"
        ));
    };
    let digits = match format {
        None | Some(b"d") => Some(1),
        Some([b'0', digits @ .., b'd']) if matches!(digits, [b'1'..=b'9', ..]) => {
            std::str::from_utf8(digits)
                .ok()
                .and_then(|digits| digits.parse::<usize>().ok())
                .filter(|&digits| digits <= MOST_DIGITS)
        }
        Some(_) => None,
    };
    match (field, format, digits) {
        (Field::Split, None, _) => Ok(Token::Split),
        (Field::Split, Some(_), _) => invalid(format_args!(
            "the field {{{shown}}} has a format; {{split}} takes none"
        )),
        (_, _, Some(digits)) => Ok(Token::Number(field, digits)),
        (_, _, None) => invalid(format_args!(
            "the field {{{shown}}} has a format that is not known; \
             {{{0}}}, {{{0}:d}} and {{{0}:05d}} (up to {MOST_DIGITS} digits) are",
            field.name()
        )),
    }
}

/// Whether all of `name` can be made from `tokens` and one of `splits`, or any when there are none
/// of them. There are at most three fields, so trying all
/// their lengths is quick.
fn matches(tokens: &[Token], name: &[u8], splits: &[String]) -> bool {
    let Some((token, tokens)) = tokens.split_first() else {
        return name.is_empty();
    };
    match token {
        Token::Literal(bytes) => name
            .strip_prefix(&bytes[..])
            .is_some_and(|rest| matches(tokens, rest, splits)),
        Token::Split => {
            let allowed = |byte: &&u8| byte.is_ascii_alphanumeric() || b"_.-".contains(byte);
            let most = name.iter().take_while(allowed).count();
            let known = |split: &[u8]| {
                splits.is_empty() || splits.iter().any(|known| known.as_bytes() == split)
            };
            (1..=most).any(|len| known(&name[..len]) && matches(tokens, &name[len..], splits))
        }
        Token::Number(field, digits) => {
            let most = name.iter().take_while(|byte| byte.is_ascii_digit()).count();
            (*digits..=most.min(MOST_DIGITS)).any(|len| {
                let number = std::str::from_utf8(&name[..len]).unwrap_or_default();
                // Only padding begins with a zero.
                (len == *digits || name[0] != b'0')
                    && number
                        .parse::<u64>()
                        .is_ok_and(|number| number <= field.max())
                    && matches(tokens, &name[len..], splits)
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(Path::new(text)).expect("a pattern")
    }

    fn matches(pattern: &Pattern, name: &str) -> bool {
        pattern.matches(OsStr::new(name))
    }

    #[test]
    fn fields_are_filled_in() {
        let pattern = pattern("some/dir/out-{split}-{index:05d}-{epoch}{{x}}.jsonl.zst");
        assert_eq!(pattern.dir(), Path::new("some/dir/"));
        assert_eq!(
            pattern.name(7, "train", 12),
            "out-train-00007-12{x}.jsonl.zst"
        );
        assert_eq!(
            pattern.name(1_234_567, "a", 0),
            "out-a-1234567-0{x}.jsonl.zst"
        );
        for field in [Field::Index, Field::Split, Field::Epoch] {
            assert!(pattern.has(field));
        }
        assert_eq!(pattern.manifest_name(), "out.manifest.json");
    }

    #[test]
    fn a_set_claims_the_names_of_its_splits() {
        let pattern = pattern("{split}.{index}").with_splits(vec!["a".into(), "a.b".into()]);
        for (name, claimed) in [
            ("a.0", true),
            ("a.b.7", true),
            ("b.0", false),
            ("a.b", false),
        ] {
            assert_eq!(pattern.claims(OsStr::new(name)), claimed, "{name}");
        }
        assert!(matches(&pattern, "b.0"));
    }

    #[test]
    fn directories_and_manifests_follow_from_the_path() {
        for (text, dir, manifest) in [
            ("{index}.txt", ".", "manifest.json"),
            ("-._{index}.txt", ".", "manifest.json"),
            ("/{index}.txt", "/", "manifest.json"),
            ("/a{{b/c-{index:d}", "/a{b", "c.manifest.json"),
            ("plain.txt", ".", "plain.txt.manifest.json"),
            ("x/a.b_{epoch:03d}", "x", "a.b.manifest.json"),
        ] {
            let pattern = pattern(text);
            assert_eq!(pattern.dir(), Path::new(dir), "{text}");
            assert_eq!(pattern.manifest_name(), manifest, "{text}");
        }
    }

    #[test]
    fn whatever_is_not_a_pattern_is_refused_with_its_reason() {
        for (text, reason) in [
            ("", "name of a file"),
            ("dir/", "name of a file"),
            ("out-{index}/", "name of a file"),
            ("out-{index}/..", "name of a file"),
            ("{split}/out-{index}", "directory"),
            ("out-{indx}", "{indx}"),
            ("out-{}", "{}"),
            ("out-{0}", "{0}"),
            ("out-{index", "not closed"),
            ("out-{in{dex}", "not closed"),
            ("out-index}", "closes nothing"),
            ("out-{index}-{index:05d}", "twice"),
            ("out-{split:s}.txt", "takes none"),
            ("out-{index:5d}", "{index:5d}"),
            ("out-{index:05}", "{index:05}"),
            ("out-{index:0d}", "{index:0d}"),
            ("out-{index:005d}", "{index:005d}"),
            ("out-{index:021d}", "{index:021d}"),
            ("out-{index:x}", "{index:x}"),
            ("out-{index:}", "{index:}"),
            ("out-{index!r}", "{index!r}"),
            ("{split}", "manifest.json"),
            ("{split}.json", "manifest.json"),
            ("out{split}", "out.manifest.json"),
            (&format!("{}{{index}}", "x".repeat(201)), "200"),
        ] {
            let error = Pattern::parse(Path::new(text)).expect_err(text).to_string();
            assert!(error.starts_with("output"), "{error}");
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn only_names_of_the_set_match() {
        let five = pattern("out-{index:05d}.txt");
        for name in ["out-00000.txt", "out-99999.txt", "out-100000.txt"] {
            assert!(matches(&five, name), "{name}");
        }
        for name in [
            "out-1.txt",
            "out-0001.txt",
            "out-000001.txt",
            "out-00001.tx",
            "out-00001.txt~",
            ".out-00001.txt",
            "out--0001.txt",
            "out-99999999999999999999.txt",
            "out-.txt",
            "",
        ] {
            assert!(!matches(&five, name), "{name}");
        }
        let plain = pattern("out-{index}");
        assert!(matches(&plain, "out-0") && matches(&plain, "out-18446744073709551615"));
        assert!(!matches(&plain, "out-00") && !matches(&plain, "out-18446744073709551616"));
        let epoch = pattern("out-{epoch}");
        assert!(matches(&epoch, "out-4294967295") && !matches(&epoch, "out-4294967296"));
        let split = pattern("{split}-{index}.txt");
        assert!(matches(&split, "a-b-3-4.txt") && !matches(&split, "-3.txt"));
        assert!(!matches(&split, "ä-3.txt") && !matches(&split, "a b-3.txt"));
    }

    #[test]
    fn names_need_not_be_utf8() {
        let path = OsString::from_vec(b"d\xFF/o\xFE-{index}".to_vec());
        let pattern = Pattern::parse(Path::new(&path)).expect("a pattern");
        let name = OsString::from_vec(b"o\xFE-3".to_vec());
        assert_eq!(pattern.name(3, "", 0), name);
        assert!(pattern.matches(&name) && !pattern.is_utf8());
        assert!(!pattern.matches(OsStr::new("o-3")));
    }

    prop_compose! {
        /// Some of the fields, in any order, with text or nothing between them.
        fn formats()(
            order in Just(vec!["{index", "{epoch", "{split}"]).prop_shuffle(),
            many in 0usize..=3,
            digits in prop::collection::vec(0usize..=20, 3),
            texts in prop::collection::vec("[a-z0-9.{}_-]{0,4}", 4),
        ) -> String {
            let mut format = String::new();
            for (i, text) in texts.iter().enumerate() {
                format += &text.replace('{', "{{").replace('}', "}}");
                let Some(field) = order[..many].get(i) else {
                    continue;
                };
                format += field;
                if !field.ends_with('}') {
                    format += &match digits[i] {
                        0 => "}".to_owned(),
                        1 => ":d}".to_owned(),
                        n => format!(":0{n}d}}"),
                    };
                }
            }
            format
        }
    }

    proptest! {
        #[test]
        fn names_match(
            format in formats(),
            index in prop_oneof![0u64..2000, any::<u64>()],
            epoch in prop_oneof![0u32..20, any::<u32>()],
            split in "[A-Za-z0-9_.-]{1,6}",
        ) {
            // What cannot be a pattern is refused elsewhere.
            let Ok(pattern) = Pattern::parse(Path::new(&format)) else {
                return Ok(());
            };
            let name = pattern.name(index, &split, epoch);
            prop_assume!(name != "." && name != "..");
            prop_assert!(pattern.matches(&name), "{format} {name:?}");
        }

        #[test]
        fn what_matches_is_a_name(digits in 1usize..4, name in "a[0-9]{0,6}b?") {
            let pattern = pattern(&format!("a{{index:0{digits}d}}"));
            let number = name[1..].parse::<u64>().ok();
            let made = number.is_some_and(|number| pattern.name(number, "", 0) == *name);
            prop_assert_eq!(pattern.matches(OsStr::new(&name)), made);
        }
    }
}
