//! Just enough of Rust's lexical grammar to tell code from comments and
//! literals, so that the other rules may look for plain text.

/// `text` with comments and the insides of strings and characters turned into
/// spaces. Line breaks stay, so line numbers do too.
pub(crate) fn blank(text: &str) -> String {
    let mut lexer = Lexer { chars: text.chars().collect(), at: 0, out: String::new() };
    while lexer.at < lexer.chars.len() {
        lexer.step();
    }
    lexer.out
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
    out: String,
}

impl Lexer {
    fn peek(&self, ahead: usize) -> char {
        self.chars.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn keep(&mut self) {
        let c = self.peek(0);
        self.out.push(c);
        self.at += 1;
    }

    fn hide(&mut self) {
        let c = if self.peek(0) == '\n' { '\n' } else { ' ' };
        self.out.push(c);
        self.at += 1;
    }

    fn step(&mut self) {
        let after_word = self.out.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        match (self.peek(0), self.peek(1)) {
            ('/', '/') => {
                while self.at < self.chars.len() && self.peek(0) != '\n' {
                    self.hide();
                }
            }
            ('/', '*') => self.block_comment(),
            ('"', _) => self.string(),
            ('r', '"' | '#') if !after_word => self.raw_string(1),
            ('b' | 'c', 'r') if !after_word && matches!(self.peek(2), '"' | '#') => self.raw_string(2),
            ('\'', _) => self.quote(),
            _ => self.keep(),
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0;
        while self.at < self.chars.len() {
            match (self.peek(0), self.peek(1)) {
                ('/', '*') => depth += 1,
                ('*', '/') => depth -= 1,
                _ => {
                    self.hide();
                    continue;
                }
            }
            self.hide();
            self.hide();
            if depth == 0 {
                return;
            }
        }
    }

    fn string(&mut self) {
        self.keep();
        while self.at < self.chars.len() && self.peek(0) != '"' {
            if self.peek(0) == '\\' {
                self.hide();
            }
            self.hide();
        }
        self.keep_if_any();
    }

    /// `prefix` letters, hashes, and a quote; a raw identifier (`r#type`) is kept as it is.
    fn raw_string(&mut self, prefix: usize) {
        let mut hashes = 0;
        while self.peek(prefix + hashes) == '#' {
            hashes += 1;
        }
        for _ in 0..prefix + hashes {
            self.keep();
        }
        if self.peek(0) != '"' {
            return;
        }
        self.keep();
        while self.at < self.chars.len() {
            let closes = self.peek(0) == '"' && (1..=hashes).all(|n| self.peek(n) == '#');
            if closes {
                self.keep();
                return;
            }
            self.hide();
        }
    }

    /// A character literal, or the mark of a lifetime.
    fn quote(&mut self) {
        let is_char = self.peek(1) == '\\' || (self.peek(1) != '\'' && self.peek(2) == '\'');
        self.keep();
        if !is_char {
            return;
        }
        if self.peek(0) == '\\' {
            self.hide();
        }
        self.hide();
        while self.at < self.chars.len() && self.peek(0) != '\'' {
            self.hide();
        }
        self.keep_if_any();
    }

    fn keep_if_any(&mut self) {
        if self.at < self.chars.len() {
            self.keep();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::blank;

    #[test]
    fn only_code_is_left() {
        let cases = [
            ("a // {\nb", "a     \nb"),
            ("a /* { /* } */ { */ b", "a                   b"),
            (r#"f("{ \" }") {"#, r#"f("      ") {"#),
            (r##"r#"{ " "# {"##, r##"r#"    "# {"##),
            ("'{' '\\'' '\\u{1F}' x: &'a str {", "' ' '  ' '      ' x: &'a str {"),
            ("r#type { var\" { \"}", "r#type { var\"   \"}"),
        ];
        for (text, code) in cases {
            assert_eq!(blank(text), code, "{text}");
        }
    }
}
