//! The command line: MODE PATH, then --name value or --name.

pub struct Args {
    pub mode: String,
    pub path: String,
    options: Vec<(String, String)>,
}

impl Args {
    pub fn from_env() -> Self {
        let mut words = std::env::args().skip(1).peekable();
        let mode = words.next().unwrap_or_default();
        let path = words.next().unwrap_or_default();
        let mut options = Vec::new();
        while let Some(name) = words.next() {
            let value = words.next_if(|word| !word.starts_with("--")).unwrap_or_default();
            options.push((name.trim_start_matches("--").into(), value));
        }
        Self { mode, path, options }
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    pub fn number(&self, name: &str) -> Option<u64> {
        self.text(name).map(|value| value.parse().expect("a number"))
    }
}
