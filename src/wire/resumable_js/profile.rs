//! [`Profile`]: the names that one library gives to what it says.
//!
//! # Source
//! C-53; resumable.js `opts.*ParameterName`, flow.js `getParams`,
//! simple-uploader.js `getParams`, Dropzone `params` and `error`.

/// What a parameter means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parameter {
    /// The chunk's number, from 1 or from 0.
    ChunkNumber,
    /// The size of every chunk but the last.
    ChunkSize,
    /// The size of this chunk.
    CurrentChunkSize,
    /// The name of the file.
    Filename,
    /// What the client takes for an identity of the file.
    Identifier,
    /// The path of the file below the folder that was chosen.
    RelativePath,
    /// The number of chunks.
    TotalChunks,
    /// The size of the file.
    TotalSize,
    /// The media type of the file.
    Type,
}

impl Parameter {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 9] = [
        Self::ChunkNumber,
        Self::ChunkSize,
        Self::CurrentChunkSize,
        Self::Filename,
        Self::Identifier,
        Self::RelativePath,
        Self::TotalChunks,
        Self::TotalSize,
        Self::Type,
    ];

    /// Its position among [`Parameter::ALL`].
    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

/// The names of one library's parameters, as its options have them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    answers: Answers,
    /// The number of a file's first chunk.
    first: u64,
    /// One for each of [`Parameter::ALL`]; empty = not sent.
    names: [String; Parameter::ALL.len()],
    namespace: String,
    payload: String,
}

/// What a library reads in an answer besides the status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answers {
    /// Nothing: its pages get the text, where `error` is an object.
    Objects,
    /// `error`, which it shows to the user as it is.
    Texts,
}

impl Profile {
    /// resumable.js.
    pub fn resumable() -> Self {
        Self::new([
            "resumableChunkNumber",
            "resumableChunkSize",
            "resumableCurrentChunkSize",
            "resumableFilename",
            "resumableIdentifier",
            "resumableRelativePath",
            "resumableTotalChunks",
            "resumableTotalSize",
            "resumableType",
        ])
    }

    /// flow.js.
    pub fn flow() -> Self {
        Self::new([
            "flowChunkNumber",
            "flowChunkSize",
            "flowCurrentChunkSize",
            "flowFilename",
            "flowIdentifier",
            "flowRelativePath",
            "flowTotalChunks",
            "flowTotalSize",
            "",
        ])
    }

    /// simple-uploader.js, and vue-simple-uploader.
    pub fn simple() -> Self {
        Self::new([
            "chunkNumber",
            "chunkSize",
            "currentChunkSize",
            "filename",
            "identifier",
            "relativePath",
            "totalChunks",
            "totalSize",
            "",
        ])
    }

    /// Dropzone 5 and 6. It numbers its chunks from 0 and makes an identifier for every file that
    /// is added. It tells the file's name with the chunk alone; `dzfilename` is for other libraries
    /// that borrow these names.
    pub fn dropzone() -> Self {
        let names = [
            "dzchunkindex",
            "dzchunksize",
            "",
            "dzfilename",
            "dzuuid",
            "",
            "dztotalchunkcount",
            "dztotalfilesize",
            "",
        ];
        Self { answers: Answers::Texts, first: 0, ..Self::new(names) }
    }

    fn new(names: [&str; Parameter::ALL.len()]) -> Self {
        Self {
            answers: Answers::Objects,
            first: 1,
            names: names.map(str::to_owned),
            namespace: String::new(),
            payload: "file".to_owned(),
        }
    }

    /// The same, but `parameter` is called `name`. An empty name is one that is not sent.
    #[must_use]
    pub fn with_name(mut self, parameter: Parameter, name: impl Into<String>) -> Self {
        self.names[parameter.index()] = name.into();
        self
    }

    /// The same with `namespace` in front of every name, that of the payload included
    /// (`parameterNamespace` of resumable.js).
    #[must_use]
    pub fn with_namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// The same, but the form field that holds the chunk is called `name` (`fileParameterName`).
    #[must_use]
    pub fn with_payload_name(mut self, name: impl Into<String>) -> Self {
        self.payload = name.into();
        self
    }

    /// The parameter that is called `name`.
    pub(super) fn parameter(&self, name: &str) -> Option<Parameter> {
        let name = self.bare(name).filter(|name| !name.is_empty())?;
        let index = self.names.iter().position(|known| known == name)?;
        Some(Parameter::ALL[index])
    }

    /// What the library reads in answers.
    pub(super) fn answers(&self) -> Answers {
        self.answers
    }

    /// The number of a file's first chunk.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// Whether requests say `parameter` at all.
    pub(super) fn says(&self, parameter: Parameter) -> bool {
        !self.names[parameter.index()].is_empty()
    }

    /// The name of `parameter` as it is sent.
    pub(super) fn name(&self, parameter: Parameter) -> String {
        format!("{}{}", self.namespace, self.names[parameter.index()])
    }

    /// Whether the form field `name` holds the chunk.
    pub(super) fn is_payload(&self, name: &str) -> bool {
        self.bare(name) == Some(self.payload.as_str())
    }

    /// Whether `name` is what the application's parameter `own` is sent as.
    pub(super) fn is_own(&self, own: &str, name: &str) -> bool {
        self.bare(name) == Some(own)
    }

    fn bare<'n>(&self, name: &'n str) -> Option<&'n str> {
        name.strip_prefix(self.namespace.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_library_has_its_names_j_004() {
        for (profile, prefix, count) in [
            (Profile::resumable(), "resumable", 9),
            (Profile::flow(), "flow", 8),
            (Profile::dropzone(), "dz", 6),
        ] {
            let names = Parameter::ALL.map(|parameter| profile.name(parameter));
            let sent: Vec<_> = names.iter().filter(|name| !name.is_empty()).collect();
            assert_eq!(sent.len(), count);
            assert!(sent.iter().all(|name| name.starts_with(prefix)));
            for parameter in Parameter::ALL {
                let name = profile.name(parameter);
                let expected = (!name.is_empty()).then_some(parameter);
                assert_eq!(profile.parameter(&name), expected, "{name}");
                assert_eq!(Profile::simple().parameter(&name), None, "{name}");
            }
        }
        let simple = Profile::simple();
        assert_eq!(simple.parameter("identifier"), Some(Parameter::Identifier));
        assert_eq!(simple.parameter(""), None);
        assert_eq!(simple.parameter("chunknumber"), None);
    }

    #[test]
    fn every_name_can_be_changed_j_004() {
        let profile = Profile::resumable()
            .with_name(Parameter::ChunkNumber, "n")
            .with_name(Parameter::Type, "")
            .with_namespace("ns.")
            .with_payload_name("blob");
        for (name, expected) in [
            ("ns.n", Some(Parameter::ChunkNumber)),
            ("ns.resumableChunkSize", Some(Parameter::ChunkSize)),
            ("n", None),
            ("ns.resumableChunkNumber", None),
            ("ns.", None),
            ("ns.resumableType", None),
        ] {
            assert_eq!(profile.parameter(name), expected, "{name}");
        }
        assert!(profile.is_payload("ns.blob"));
        assert!(!profile.is_payload("blob") && !profile.is_payload("ns.file"));
        assert_eq!(profile.name(Parameter::ChunkNumber), "ns.n");
    }

    #[test]
    fn parameters_are_numbered_as_listed() {
        for (index, parameter) in Parameter::ALL.into_iter().enumerate() {
            assert_eq!(parameter.index(), index);
        }
    }
}
