//! The public interface of the published packages, item by item, as their sources declare it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use syn::{
    Attribute, Fields, GenericParam, Generics, Ident, ImplItem, ReturnType, Signature, TraitItem, Type, Visibility,
    parse::ParseStream,
    visit::{self, Visit},
};

/// The sources of the libraries for users.
pub(crate) const LIBRARIES: [&str; 7] = [
    "core/src",
    "core/host/src",
    "core/node/src",
    "adapter-tokio/src",
    "adapter-smol/src",
    "adapter-tokio/http/src",
    "tests/kit/src",
];

/// A directory of the kit that is there for Formation's own tests.
const UNSTABLE: &str = "engine";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A structure or an enum.
    Data,
    Function,
    /// A trait, a constant, or another name of a type.
    Other,
}

/// A public item, without its body. The functions of a type and of a trait are items of their own.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) library: &'static str,
    pub(crate) kind: Kind,
    /// The type or the trait that a function belongs to.
    pub(crate) owner: Option<String>,
    pub(crate) name: String,
    pub(crate) docs: String,
    /// The words of its attributes.
    pub(crate) attributes: BTreeSet<String>,
    /// The types and traits that its signature, its public fields or its variants name, each with the first part of its path.
    pub(crate) named: BTreeSet<(String, String)>,
    pub(crate) returns_future: bool,
    /// Users can make one, or match all of it, unless it is `#[non_exhaustive]`.
    pub(crate) is_open: bool,
}

impl Item {
    /// `Type::function`, or the name.
    pub(crate) fn path(&self) -> String {
        self.owner.iter().chain([&self.name]).cloned().collect::<Vec<_>>().join("::")
    }

    pub(crate) fn has(&self, attribute: &str) -> bool {
        self.attributes.contains(attribute)
    }

    /// The code of the examples in its documentation that are built.
    pub(crate) fn examples(&self) -> String {
        examples(&self.docs)
    }
}

/// The public items of a library, and the traits that its types implement.
#[derive(Debug, Default)]
pub(crate) struct Api {
    pub(crate) items: Vec<Item>,
    /// Type and trait.
    pub(crate) implemented: BTreeSet<(String, String)>,
    /// What its root exports of other packages, and of its modules.
    pub(crate) exports: BTreeSet<String>,
    /// The documentation of its modules.
    pub(crate) modules: Vec<String>,
}

/// The public interface of these libraries.
pub(crate) fn of(libraries: &[&'static str]) -> Api {
    let mut api = Api::default();
    for library in libraries {
        for path in files(&root().join(library)) {
            let source = fs::read_to_string(&path).unwrap();
            api.read(library, &source).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
    }
    api
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The sources in a directory, without those for Formation's own tests.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut all = Vec::new();
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() && path.file_name() != Some(UNSTABLE.as_ref()) {
            all.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push(path);
        }
    }
    all.sort();
    all
}

pub(crate) fn words(code: &str) -> impl Iterator<Item = String> {
    let words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.filter(|word| !word.is_empty()).map(str::to_owned)
}

/// The code in a text that is built as an example.
pub(crate) fn examples(docs: &str) -> String {
    let (mut code, mut is_example) = (String::new(), false);
    for line in docs.lines() {
        match line.trim_start().strip_prefix("```") {
            Some(kind) => is_example = !is_example && ["", "no_run"].contains(&kind),
            None if is_example => code += &format!("{line}\n"),
            None => {}
        }
    }
    code
}

impl Api {
    /// Whether a type implements a trait, by a derive or by hand. An error by `thiserror` has its `Display`.
    pub(crate) fn has_trait(&self, of: &Item, name: &str) -> bool {
        of.has(name)
            || (name == "Display" && of.has("Error"))
            || self.implemented.contains(&(of.name.clone(), name.to_owned()))
    }

    /// Adds the items of a source.
    pub(crate) fn read(&mut self, library: &'static str, source: &str) -> syn::Result<()> {
        let file = syn::parse_file(source)?;
        self.modules.push(docs(&file.attrs));
        let imports = imports(&file.items);
        let mut reader = Reader { api: self, library, imports };
        file.items.iter().for_each(|item| reader.item(item));
        Ok(())
    }
}

/// Reads one file.
struct Reader<'a> {
    api: &'a mut Api,
    library: &'static str,
    /// The first part of the path of each imported name.
    imports: BTreeMap<String, String>,
}

impl Reader<'_> {
    fn item(&mut self, item: &syn::Item) {
        match item {
            syn::Item::Struct(it) if is_public(&it.vis, &it.attrs) => {
                let named = self.named(&it.generics, |names| visit_fields(names, &it.fields, true));
                let is_open = it.fields.iter().any(|field| matches!(field.vis, Visibility::Public(_)));
                self.push(Kind::Data, None, &it.ident, &it.attrs, Item { named, is_open, ..Item::new() });
            }
            syn::Item::Enum(it) if is_public(&it.vis, &it.attrs) => {
                let fields = it.variants.iter().map(|variant| &variant.fields);
                let named =
                    self.named(&it.generics, |names| fields.for_each(|fields| visit_fields(names, fields, false)));
                self.push(Kind::Data, None, &it.ident, &it.attrs, Item { named, is_open: true, ..Item::new() });
            }
            syn::Item::Trait(it) if is_public(&it.vis, &it.attrs) => {
                let named = self.named(&it.generics, |names| {
                    it.supertraits.iter().for_each(|bound| names.visit_type_param_bound(bound));
                    it.items
                        .iter()
                        .filter(|item| matches!(item, TraitItem::Type(_)))
                        .for_each(|item| names.visit_trait_item(item));
                });
                self.push(Kind::Other, None, &it.ident, &it.attrs, Item { named, ..Item::new() });
                for function in &it.items {
                    if let TraitItem::Fn(function) = function
                        && !is_hidden(&function.attrs)
                    {
                        self.function(Some((&it.ident.to_string(), &it.generics)), &function.sig, &function.attrs);
                    }
                }
            }
            syn::Item::Impl(it) => self.implementation(it),
            syn::Item::Fn(it) if is_public(&it.vis, &it.attrs) => self.function(None, &it.sig, &it.attrs),
            syn::Item::Const(it) if is_public(&it.vis, &it.attrs) => {
                let named = self.named(&it.generics, |names| names.visit_type(&it.ty));
                self.push(Kind::Other, None, &it.ident, &it.attrs, Item { named, ..Item::new() });
            }
            syn::Item::Type(it) if is_public(&it.vis, &it.attrs) => {
                let named = self.named(&it.generics, |names| names.visit_type(&it.ty));
                self.push(Kind::Other, None, &it.ident, &it.attrs, Item { named, ..Item::new() });
            }
            syn::Item::Mod(it) if !is_hidden(&it.attrs) => {
                let items = it.content.iter().flat_map(|(_, items)| items);
                items.for_each(|item| self.item(item));
            }
            syn::Item::Use(it) if is_public(&it.vis, &it.attrs) => {
                let mut leaves = Vec::new();
                use_leaves(&it.tree, &[], &mut leaves);
                self.api.exports.extend(leaves.into_iter().map(|(_, name)| name));
            }
            syn::Item::Macro(it) => self.macro_items(&it.mac),
            _ => {}
        }
    }

    /// The inherent functions of a type, or the fact that it implements a trait.
    fn implementation(&mut self, it: &syn::ItemImpl) {
        let Some(owner) = last_name(&it.self_ty) else { return };
        if let Some((path, _)) = it.trait_.as_ref() {
            let name = path.segments.last().unwrap().ident.to_string();
            self.api.implemented.insert((owner, name));
            return;
        }
        for item in &it.items {
            match item {
                ImplItem::Fn(function) if is_public(&function.vis, &function.attrs) => {
                    self.function(Some((&owner, &it.generics)), &function.sig, &function.attrs);
                }
                ImplItem::Const(constant) if is_public(&constant.vis, &constant.attrs) => {
                    let named = self.named(&it.generics, |names| names.visit_type(&constant.ty));
                    self.push(
                        Kind::Other,
                        Some(&owner),
                        &constant.ident,
                        &constant.attrs,
                        Item { named, ..Item::new() },
                    );
                }
                _ => {}
            }
        }
    }

    fn function(&mut self, owner: Option<(&str, &Generics)>, signature: &Signature, attributes: &[Attribute]) {
        let none = Generics::default();
        let outer = owner.map_or(&none, |(_, generics)| generics);
        let named = self.named(outer, |names| {
            names.add_parameters(&signature.generics);
            names.visit_signature(signature);
        });
        let is_future = |(_, name): &(String, String)| name == "Future";
        let mut returned = Names::new(&self.imports);
        if let ReturnType::Type(_, result) = &signature.output {
            returned.visit_type(result);
        }
        let returns_future = signature.asyncness.is_some() || returned.found.iter().any(is_future);
        let item = Item { named, returns_future, ..Item::new() };
        self.push(Kind::Function, owner.map(|(name, _)| name), &signature.ident, attributes, item);
    }

    /// What a macro makes: `text!` makes a type of its documentation and its name, and `setters!` a setter for each field.
    fn macro_items(&mut self, call: &syn::Macro) {
        let name = call.path.segments.last().unwrap().ident.to_string();
        match name.as_str() {
            "text" => {
                let (attributes, name) = call.parse_body_with(documented_name).expect("the arguments of `text!`");
                self.push(Kind::Data, None, &name, &attributes, Item::new());
                let traits = ["Display", "Serialize"].map(|of| (name.to_string(), of.to_owned()));
                self.api.implemented.extend(traits);
            }
            // The setters have their documentation and their types from their fields. The others make nothing public.
            "macro_rules" | "overrides" | "setters" | "table" | "thread_local" => {}
            other => panic!("the macro {other}! may make public items, which this reader does not see"),
        }
    }

    fn named(&self, generics: &Generics, read: impl FnOnce(&mut Names<'_>)) -> BTreeSet<(String, String)> {
        let mut names = Names::new(&self.imports);
        names.add_parameters(generics);
        names.visit_generics(generics);
        read(&mut names);
        names.found
    }

    fn push(&mut self, kind: Kind, owner: Option<&str>, name: &Ident, attributes: &[Attribute], item: Item) {
        let of_attributes = attributes.iter().filter(|attribute| !attribute.path().is_ident("doc"));
        let attributes_words = of_attributes.flat_map(attribute_words).collect();
        self.api.items.push(Item {
            library: self.library,
            kind,
            owner: owner.map(str::to_owned),
            name: name.to_string(),
            docs: docs(attributes),
            attributes: attributes_words,
            ..item
        });
    }
}

impl Item {
    fn new() -> Self {
        Self {
            library: "",
            kind: Kind::Other,
            owner: None,
            name: String::new(),
            docs: String::new(),
            attributes: BTreeSet::new(),
            named: BTreeSet::new(),
            returns_future: false,
            is_open: false,
        }
    }
}

/// The documentation and the name before the other arguments of a macro.
fn documented_name(input: ParseStream<'_>) -> syn::Result<(Vec<Attribute>, Ident)> {
    let parsed = (input.call(Attribute::parse_outer)?, input.parse()?);
    input.step(|rest| {
        let mut rest = *rest;
        while let Some((_, next)) = rest.token_tree() {
            rest = next;
        }
        Ok(((), rest))
    })?;
    Ok(parsed)
}

/// Collects the types and traits that a part of a signature names.
struct Names<'a> {
    imports: &'a BTreeMap<String, String>,
    parameters: BTreeSet<String>,
    found: BTreeSet<(String, String)>,
}

impl<'a> Names<'a> {
    fn new(imports: &'a BTreeMap<String, String>) -> Self {
        Self { imports, parameters: BTreeSet::new(), found: BTreeSet::new() }
    }

    fn add_parameters(&mut self, generics: &Generics) {
        let types = generics.params.iter().filter_map(|parameter| match parameter {
            GenericParam::Type(parameter) => Some(parameter.ident.to_string()),
            GenericParam::Lifetime(_) | GenericParam::Const(_) => None,
        });
        self.parameters.extend(types);
    }
}

impl<'ast> Visit<'ast> for Names<'_> {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        visit::visit_path(self, path);
        let first = path.segments.first().unwrap().ident.to_string();
        if first == "Self" || self.parameters.contains(&first) {
            return;
        }
        let last = path.segments.last().unwrap().ident.to_string();
        let from = self.imports.get(&first).cloned().unwrap_or(first);
        self.found.insert((from, last));
    }

    // Neither examples nor reasons are parts of a signature.
    fn visit_attribute(&mut self, _: &'ast Attribute) {}
}

fn visit_fields(names: &mut Names<'_>, fields: &Fields, only_public: bool) {
    for field in fields {
        if !only_public || matches!(field.vis, Visibility::Public(_)) {
            names.visit_type(&field.ty);
        }
    }
}

fn is_public(visibility: &Visibility, attributes: &[Attribute]) -> bool {
    matches!(visibility, Visibility::Public(_)) && !is_hidden(attributes)
}

/// Not for users: `#[doc(hidden)]`, or only in tests.
fn is_hidden(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let words: Vec<_> = attribute_words(attribute).collect();
        words == ["doc", "hidden"] || words == ["cfg", "test"]
    })
}

fn attribute_words(attribute: &Attribute) -> impl Iterator<Item = String> {
    let text = match &attribute.meta {
        syn::Meta::List(list) => list.tokens.to_string(),
        syn::Meta::Path(_) | syn::Meta::NameValue(_) => String::new(),
    };
    let name = attribute.path().segments.last().unwrap().ident.to_string();
    [name].into_iter().chain(words(&text).collect::<Vec<_>>())
}

fn docs(attributes: &[Attribute]) -> String {
    let mut docs = String::new();
    for attribute in attributes {
        if attribute.path().is_ident("doc")
            && let syn::Meta::NameValue(value) = &attribute.meta
            && let syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) = &value.value
        {
            docs += &format!("{}\n", text.value());
        }
    }
    docs
}

fn last_name(of: &Type) -> Option<String> {
    match of {
        Type::Path(path) => path.path.segments.last().map(|segment| segment.ident.to_string()),
        _ => None,
    }
}

/// The first part of the path of each name that a file imports.
fn imports(items: &[syn::Item]) -> BTreeMap<String, String> {
    let mut leaves = Vec::new();
    for item in items {
        if let syn::Item::Use(it) = item {
            use_leaves(&it.tree, &[], &mut leaves);
        }
    }
    leaves.into_iter().map(|(from, name)| (name, from)).collect()
}

/// Each name that an import brings, and the first part of its path. `path` is what stands before the tree.
fn use_leaves(tree: &syn::UseTree, path: &[String], leaves: &mut Vec<(String, String)>) {
    let mut push = |name: &Ident, own: &Ident| {
        // `a::b::{self}` brings `b`.
        let name = if name == "self" { path.last().cloned().unwrap_or_default() } else { name.to_string() };
        leaves.push((path.first().cloned().unwrap_or_else(|| own.to_string()), name));
    };
    match tree {
        syn::UseTree::Path(it) => use_leaves(&it.tree, &[path, &[it.ident.to_string()]].concat(), leaves),
        syn::UseTree::Name(name) => push(&name.ident, &name.ident),
        syn::UseTree::Rename(rename) => push(&rename.rename, &rename.ident),
        syn::UseTree::Group(group) => group.items.iter().for_each(|tree| use_leaves(tree, path, leaves)),
        syn::UseTree::Glob(_) => {}
    }
}
