//! One line of `key=value` words, as log readers split them.

use super::clean;

/// Appends `key=value`. A value is quoted where it is empty or holds white space, `"` or `=`, as iapeer's
/// logs do; control characters cannot break the line.
pub fn field(line: &mut String, key: &str, value: &str) {
    if !line.is_empty() {
        line.push(' ');
    }
    line.push_str(key);
    line.push('=');
    let quoted = value.is_empty()
        || value.contains(|letter: char| letter.is_whitespace() || letter == '"' || letter == '=');
    if quoted {
        line.push('"');
    }
    for letter in clean::line(value).chars() {
        match letter {
            '"' | '\\' if quoted => line.extend(['\\', letter]),
            letter => line.push(letter),
        }
    }
    if quoted {
        line.push('"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_quoted_where_a_reader_would_split_it() {
        let mut line = String::new();
        for (key, value) in [("a", "b"), ("c", ""), ("d", "e f"), ("g", "h=\"\\"), ("i", "\\"), ("j", "k\nl")]
        {
            field(&mut line, key, value);
        }
        assert_eq!(line, "a=b c=\"\" d=\"e f\" g=\"h=\\\"\\\\\" i=\\ j=\"k\\\\u000al\"");
    }
}
