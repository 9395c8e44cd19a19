//! Lines of CSV.

/// The fields of a value that docker reads as a line of CSV: commas separate them, and quotes keep a
/// comma inside one.
pub fn fields(text: &str) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, after) = if let Some(quoted) = rest.strip_prefix('"') {
            quoted_field(quoted)?
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            (rest[..end].to_owned(), &rest[end..])
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after.is_empty() => return Some(fields),
            None => return None,
        }
    }
}

/// The field that a quote has begun, and what follows the one that ends it. Two quotes stand for one.
fn quoted_field(text: &str) -> Option<(String, &str)> {
    let (mut field, mut rest) = (String::new(), text);
    loop {
        let end = rest.find('"')?;
        field.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(next) => {
                field.push('"');
                rest = next;
            }
            None => return Some((field, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_those_of_a_line_of_csv() {
        let cases: [(&str, Option<&[&str]>); 8] = [
            ("a", Some(&["a"])),
            ("", Some(&[""])),
            ("a=1,b", Some(&["a=1", "b"])),
            ("a,,b,", Some(&["a", "", "b", ""])),
            (r#"id=a,"src=b,c""#, Some(&["id=a", "src=b,c"])),
            (r#""a""b",c"#, Some(&["a\"b", "c"])),
            (r#""a"#, None),
            (r#""a"b"#, None),
        ];
        for (text, expected) in cases {
            let expected = expected.map(|fields| fields.iter().map(|f| (*f).to_owned()).collect());
            assert_eq!(fields(text), expected, "{text}");
        }
    }
}
