//! Bad configurations and their messages, layers, masking, and the files in `config/`.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::organization::Organizations;

/// A secret that must never be seen again.
const HUSH: &str = "hush-hush-hush";

/// A directory with configuration files, and an environment.
struct Bench {
    dir: tempfile::TempDir,
    files: Vec<PathBuf>,
    env: BTreeMap<String, String>,
}

impl Bench {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), files: Vec::new(), env: BTreeMap::new() }
    }

    /// A bench with one complete organization, `default`.
    fn with_organization() -> Self {
        Self::new().var("WIGZO_ORG_TOKEN", "made-up-org-token")
    }

    /// Adds a configuration file; `DIR` in its text is the directory.
    fn file(mut self, name: &str, text: &str) -> Self {
        let dir = self.dir.path().display().to_string();
        let path = self.put(name, &text.replace("DIR", &dir));
        self.files.push(path);
        self
    }

    /// Adds a file of the directory of organizations.
    fn organization(self, file: &str, text: &str) -> Self {
        fs::create_dir_all(self.dir.path().join("organizations.d")).unwrap();
        self.put(&format!("organizations.d/{file}"), text);
        self
    }

    /// Adds a variable.
    fn var(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Writes a file that is no configuration.
    fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn load(&self) -> Result<Settings, Problems> {
        Settings::load(&self.files, &self.env)
    }

    fn settings(&self) -> Settings {
        self.load().unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn checked(&self) -> Checked {
        self.settings().check(false).unwrap_or_else(|problems| panic!("{problems}"))
    }

    /// The messages of `load`, or of `check` if there are none, without the directory's name.
    fn messages(&self) -> Vec<String> {
        let problems = match self.load() {
            Ok(settings) => settings.check(false).map(|_| ()),
            Err(problems) => Err(problems),
        };
        let dir = format!("{}/", self.dir.path().display());
        let text = problems.err().map(|problems| problems.to_string()).unwrap_or_default();
        assert!(!text.contains(HUSH), "a message holds a secret: {text}");
        text.lines().map(|line| line.replace(&dir, "")).collect()
    }
}

// === The directory of organizations ===

#[test]
fn each_file_of_the_directory_is_an_organization() {
    let bench = Bench::new()
        .file("a.toml", "[organizations.acme]\norg_token = \"made-up-org-token\"\nsource_keys = [\"wk_a\"]")
        .file("b.toml", "[delivery]\nmax_in_flight = 7")
        .organization(
            "beta.toml",
            "# Ours.\norg_token = \"made-up-org-token\"\n[events.\"Signed Up\"]\ncalls = []",
        )
        .organization("gamma.toml", "org_token = \"made-up-org-token\"\nweight = 2")
        .organization(".hidden.toml", "nonsense")
        .organization("notes.txt", "nonsense")
        .var("WIGZO__ORGANIZATIONS__GAMMA__WEIGHT", "3");
    let checked = bench.checked();
    let names: Vec<_> = checked.organizations.iter().map(|it| (it.name.as_str(), it.weight)).collect();
    assert_eq!(names, [("acme", 1), ("beta", 1), ("gamma", 3)], "the environment has the last word");
    let place = |name| checked.settings.place_of(name).map(ToString::to_string).unwrap_or_default();
    assert!(place("acme").ends_with("/a.toml:1"), "{}", place("acme"));
    assert!(place("gamma").ends_with("/organizations.d/gamma.toml"), "{}", place("gamma"));
    assert_eq!(place("delta"), "");
}

#[test]
fn a_mistake_in_the_directory_is_told_with_its_file_and_line() {
    let good = "org_token = \"made-up-org-token\"";
    for (file, text, expected) in [
        (
            "beta.toml",
            "org_tokn = \"hush-hush-hush\"",
            "organizations.d/beta.toml:1: organizations.beta.org_tokn: unknown key; did you mean `org_token`?",
        ),
        (
            "beta.toml",
            "\nweight = 0",
            "organizations.d/beta.toml:2: organizations.beta.weight: expected a whole number, from 1 to 100",
        ),
        (
            "beta.toml",
            "org_token = hush-hush-hush",
            "organizations.d/beta.toml:1: not TOML: string values must be quoted, expected literal string",
        ),
        (
            "beta.toml",
            "[organizations.beta]\nopen = true",
            "organizations.d/beta.toml:1: organizations.beta.organizations: unknown key",
        ),
        (
            "Beta.toml",
            good,
            "organizations.d/Beta.toml: organizations.Beta: the name is 1 to 63 lower-case letters, digits, `-` and `_`, and begins with a letter or digit",
        ),
        (
            "acme.toml",
            good,
            "organizations.d/acme.toml: organizations.acme: this organization is configured in a.toml:1 as well; keep it in one of the two",
        ),
        (
            "beta.toml",
            "",
            "organizations.d/beta.toml: organizations.beta.org_token: missing; give the organization token from Wigzo's settings page, or org_token_file",
        ),
    ] {
        let bench = Bench::new()
            .file("a.toml", "[organizations.acme]\norg_token = \"made-up-org-token\"")
            .organization(file, text);
        let messages = bench.messages();
        let known_here = |message: &str| message.split("; known here").next().unwrap_or_default().to_owned();
        assert_eq!(
            messages.iter().map(|it| known_here(it)).collect::<Vec<_>>(),
            [known_here(expected)],
            "{file}: {text}"
        );
    }
}

/// What would result from an edit is judged as a whole, before there is a file.
#[test]
fn an_edit_is_judged_before_it_is_made() {
    let bench = Bench::new()
        .file("a.toml", "[organizations.acme]\norg_token = \"made-up-org-token\"\nsource_keys = [\"wk_a\"]");
    let path = organizations_beside(&bench.files[0]).join("beta.toml");
    let with = |text: &str| {
        let edit = Edit { path: path.clone(), text: text.to_owned() };
        Settings::load_edited(&bench.files, &bench.env, edit)
            .and_then(|it| it.check(false))
            .map(|it| it.organizations.len())
    };
    assert_eq!(with("org_token = \"made-up-org-token\"").unwrap(), 2);
    let problems =
        with("org_token = \"made-up-org-token\"\nsource_keys = [\"wk_a\"]").unwrap_err().to_string();
    assert!(
        problems.contains("organizations.beta.source_keys[0]: this key belongs to organization acme"),
        "{problems}"
    );
    assert!(!path.exists());
}

// === Messages ===

#[test]
fn a_bad_file_is_refused_with_line_key_and_what_would_be_right() {
    for (text, expected) in [
        ("[delivery.retry]\nbse = \"1s\"", "2: delivery.retry.bse: unknown key; did you mean `base`?"),
        ("[delivry]\nmax_in_flight = 1", "1: delivry: unknown key; did you mean `delivery`?"),
        (
            "[telemetry]\ncolour = \"hush-hush-hush\"",
            "2: telemetry.colour: unknown key; known here: log, log_format, log_summary, metric_organizations, traces",
        ),
        (
            "[ingress]\n\nlisten = 8080",
            "3: ingress.listen: expected text in quotes, such as \"127.0.0.1:8080\"",
        ),
        (
            "[ingress]\nlisten = \"hush-hush-hush\"",
            "2: ingress.listen: invalid socket address syntax; the default is \"127.0.0.1:8080\"",
        ),
        (
            "[ingress.listen]\nport = 1",
            "1: ingress.listen: expected text in quotes, such as \"127.0.0.1:8080\"",
        ),
        ("ingress = \"0.0.0.0:8080\"", "1: ingress: expected a table, as in [ingress]"),
        (
            "[queue]\nmax_disk = \"x\"",
            "2: queue.max_disk: expected a value of the right form, such as \"10 GiB\"",
        ),
        ("[queue]\nmax_disk = 5", "2: queue.max_disk: expected text in quotes, such as \"10 GiB\""),
        ("[delivery]\nmax_in_flight = -1", "2: delivery.max_in_flight: expected a whole number, 0 or more"),
        ("[delivery]\nmax_in_flight = 1.5", "2: delivery.max_in_flight: expected a whole number, 0 or more"),
        (
            "[delivery]\nmax_in_flight = \"256\"",
            "2: delivery.max_in_flight: expected a whole number, 0 or more",
        ),
        (
            "[delivery]\nmax_in_flight = 99999999999999999999",
            "2: delivery.max_in_flight: expected a whole number, 0 or more",
        ),
        (
            "[delivery.retry]\nbase = \"soon\"",
            "2: delivery.retry.base: a duration is a whole number and a unit: \"250ms\", \"1s\", \"10m\", \"24h\", \
             \"7d\"; the default is \"1s\"",
        ),
        ("[delivery.retry]\nbase = 1", "2: delivery.retry.base: expected text in quotes, such as \"1s\""),
        (
            "[telemetry]\nlog_format = \"xml\"",
            "2: telemetry.log_format: expected one of \"auto\", \"json\", \"pretty\"",
        ),
        ("[ingress\nlisten = 1", "1: not TOML: unclosed table, expected `]`"),
        (
            "[ingress]\nlisten = hush-hush-hush",
            "2: not TOML: string values must be quoted, expected literal string",
        ),
        ("[queue]\npath = \"a\"\npath = \"b\"", "3: not TOML: duplicate key"),
        ("[queue]\npath = \"hush-hush-hush", "2: not TOML: invalid basic string, expected `\"`"),
    ] {
        assert_refused(text, expected);
    }
}

/// A file with this text is refused with this one message.
fn assert_refused(text: &str, expected: &str) {
    let messages = Bench::new().file("a.toml", text).messages();
    assert_eq!(messages, [format!("a.toml:{expected}")], "{text}");
}

#[test]
fn a_bad_organization_is_refused_with_line_key_and_what_would_be_right() {
    for (text, expected) in [
        (
            "[organization_defaults]\nidentity = \"hush-hush-hush\"",
            "2: organization_defaults.identity: expected one of \"user_first\", \"anonymous_first\", \"raw\"",
        ),
        (
            "[organization_defaults]\nmax_in_flight = 0",
            "2: organization_defaults.max_in_flight: expected a whole number, from 1 to 10000",
        ),
        (
            "[organization_defaults]\norg_token = \"hush-hush-hush\"",
            "2: organization_defaults.org_token: unknown key; known here: alias, base_url, contactless, \
             cors_origins, engage_track, event_names, events, extra_traits, group, identify_fields, identify_values, \
             identity, link_anonymous, max_in_flight, nested_traits, obey_integrations, otherwise, page, phone_country, \
             profile, rate_limit, report_rejections, screen, source, weight",
        ),
        (
            "[organizations.acme]\nmax_in_flight = 10001",
            "2: organizations.acme.max_in_flight: expected a whole number, from 1 to 10000",
        ),
        (
            "[organizations.acme]\nbase_url = \"https://me:hush-hush-hush@shop.example\"",
            "2: organizations.acme.base_url: user name and password are not allowed in the address; tokens have keys \
             of their own",
        ),
        (
            "[organizations.acme]\nbase_url = \"https://shop.example?token=hush-hush-hush\"",
            "2: organizations.acme.base_url: `?` and `#` are not allowed in the address; give scheme, host and path \
             only",
        ),
        (
            "[organizations.acme]\nbase_url = \"hush-hush-hush\"",
            "2: organizations.acme.base_url: an http or https address is expected, such as \
             \"https://tracker.wigzopush.com\"",
        ),
        (
            "[organizations.acme]\norg_token = 12345678901",
            "2: organizations.acme.org_token: expected text in quotes",
        ),
        (
            "[organizations.acme]\nsource_keys = \"hush-hush-hush\"",
            "2: organizations.acme.source_keys: expected a list, as in [\"one\", \"two\"]",
        ),
        (
            "[organizations.acme]\nsource_keys = [1]",
            "2: organizations.acme.source_keys: expected a list, as in [\"one\", \"two\"]",
        ),
        ("[organizations.acme]\nopen = \"yes\"", "2: organizations.acme.open: expected true or false"),
        (
            "[organizations.acme]\nshared_secret = \"hush-hush-hush\"",
            "2: organizations.acme.shared_secret: unknown key; did you mean `shared_secrets`?",
        ),
        ("organizations = [\"acme\"]", "1: organizations: expected a table, as in [organizations]"),
        (
            "organizations.acme = \"hush-hush-hush\"",
            "1: organizations.acme: expected a table, as in [organizations.acme]",
        ),
    ] {
        assert_refused(text, expected);
    }
}

#[test]
fn a_bad_change_to_a_profile_is_refused_with_line_key_and_what_would_be_right() {
    for (text, expected) in [
        (
            "[organizations.default.page]\ncals = []",
            "2: organizations.default.page.cals: unknown key; did you mean `calls`?",
        ),
        (
            "[organizations.default.events.\"Product Added\"]\ncalls = [\n  { event = \"a\" },\n  { event = \"b\", valu = \"url\" },\n]",
            "4: organizations.default.events.Product Added.calls[1].valu: unknown key; did you mean `value`?",
        ),
        (
            "[organizations.default.events.\"Product Added\"]\ncalls = [\n  { event = \"a\", requires = \"url\" },\n]",
            "3: organizations.default.events.Product Added.calls[0].requires: expected a list, as in [\"one\", \"two\"]",
        ),
        (
            "[organizations.default.events.A]\ncalls = [{ endpoint = \"identify\" }]",
            "2: organizations.default.events.A.calls[0].endpoint: expected one of \"product\", \"shipment\"",
        ),
        (
            "[organization_defaults.events.A]\ncalls = [\"a\"]",
            "2: organization_defaults.events.A.calls[0]: expected a table, such as { endpoint = …, event = …, \
             requires = …, status = …, value = …, when = … }",
        ),
        (
            "[organization_defaults.events.A]\ncalls = [\n  { event = \"{name}\" },\n]",
            "3: organization_defaults.events.A.calls[0].event: unknown placeholder; the only one is \"{event}\", alone",
        ),
        (
            "[organizations.default.events.A]\ncalls = [{ event = \"e\", requires = [\n\"url\",\n\"sku\"] }]",
            "4: organizations.default.events.A.calls[0].requires[1]: unknown field; expected `product_id`, `order_id`, \
             `checkout_id`, `products` (at least one that has an id), `url`, `name`, `price`, or a path that begins with \
             `properties.`, `traits.` or `context.`",
        ),
        (
            "[organizations.default.events.\"a.b [c]\"]\ncalls = []\n[organizations.default.events.\"A.B [C]\"]",
            "1: organizations.default.events.a.b [c]: this name and \"A.B [C]\" are names of one row; write one row for both",
        ),
        (
            "[organizations.default]\nidentify_fields = [\"mail\"]",
            "2: organizations.default.identify_fields: expected a list of any of \"email\", \"phone\", \"fullName\", \
             \"firstName\", \"lastName\", \"customer_id\", \"city\", \"state\", \"country\", \"country_code\", \
             \"postal_code\", \"language\", \"createdAt\", \"updatedAt\"",
        ),
        (
            "[organizations.default]\nphone_country = \"hush-hush-hush\"",
            "2: organizations.default.phone_country: expected the two letters of a country in ISO 3166, such as \"IN\", or \
             \"\" for numbers as they were sent",
        ),
    ] {
        let messages = Bench::with_organization().file("a.toml", text).messages();
        assert_eq!(messages, [format!("a.toml:{expected}")], "{text}");
    }
}

/// The layers lie over each other key by key, also within rows, and names are kept as they are.
#[test]
fn changes_to_a_profile_are_layered() {
    let checked = Bench::with_organization()
        .file("a.toml", "[organization_defaults]\nprofile = \"guide\"\n[organization_defaults.events.\"A.b [C]\"]\ndrop = [\"X y\"]\n[organizations.default.events.\"A.b [C]\"]\nkeep = [\"Z\"]")
        .file("b.toml", "[organizations.default.events.\"A.b [C]\"]\nset = { \"D e\" = 1.5, F = 2, g = true }")
        .checked();
    let organization = checked.organizations.by_name("default").unwrap();
    assert_eq!(organization.profile.name(), "guide");
    let (row, _) = organization.profile.track("A.b [C]");
    assert_eq!(row.names(), ["A.b [C]"]);
    assert_eq!(row.dropped().unwrap(), ["X y"]);
    assert_eq!(row.kept().unwrap(), ["Z"]);
    let constants = row.constants().unwrap().iter();
    let constants: Vec<_> = constants.map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(constants, [("D e", "1.5"), ("F", "2"), ("g", "true")]);
    assert_eq!(row.layer(), crate::translate::Layer::Organization);
}

/// What is printed is a configuration again, and the same one.
#[test]
fn changes_to_a_profile_are_printed_as_they_are_read() {
    let text = "[organization_defaults]\nidentify_fields = [\"email\"]\nsource = \"app\"\n\
        [organization_defaults.page]\ncalls = []\n\
        [organizations.acme]\norg_token_file = \"org\"\nevent_names = \"snake\"\n\
        [organizations.acme.otherwise]\nkeep = [\"a\"]\n\
        [organizations.acme.events.\"A.b [C]\"]\nalso = [\"D\"]\nset = { \"e f\" = 1.5 }\n\
        calls = [{ event = \"x\", when = { \"properties.a\" = [1, true, \"b\"] } }, { endpoint = \"shipment\", status = \"s\" }]\n";
    let settings = Bench::new().file("a.toml", text).settings();
    let printed = print_config(&settings);
    let again = Bench::new().file("b.toml", &printed).settings();
    assert_eq!(again.organizations["acme"].mapping, settings.organizations["acme"].mapping);
    assert_eq!(again.organization_defaults.mapping, settings.organization_defaults.mapping);
    assert_eq!(print_config(&again), printed);
}

#[test]
fn a_profile_that_is_not_built_in_is_refused_with_those_that_are() {
    let messages = Bench::new().file("a.toml", "[organization_defaults]\nprofile = \"gide\"").messages();
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert!(messages[0].starts_with("a.toml:2: organization_defaults.profile: expected "), "{messages:?}");
    assert!(messages[0].contains("\"standard\""), "{messages:?}");
}

#[test]
fn a_bad_variable_is_refused_by_its_name() {
    let sections =
        "admin, delivery, ingress, organization_defaults, organizations, queue, reload, sandbox, telemetry";
    let known = "known are WIGZO_ORG_TOKEN, WIGZO_TOKEN, WIGZO_SOURCE_KEYS, WIGZO_SHARED_SECRETS, \
                 WIGZO_CONFIG, WIGZO_ADMIN_URL, WIGZO_ADMIN_TOKEN, WIGZO_ADMIN_TOKEN_FILE and WIGZO__SECTION__KEY";
    for (name, value, expected) in [
        ("WIGZO__DELIVERY__RETRY__BSE", "1s", "delivery.retry.bse: unknown key; did you mean `base`?"),
        (
            "WIGZO__DELIVERY__RETRY",
            "1s",
            "delivery.retry: a section takes no value; name one of its keys: base, cap, horizon, retry_after_cap, soft_failures",
        ),
        ("WIGZO__ORGANIZATIONS", HUSH, "organizations: takes no value; name one entry and its key"),
        (
            "WIGZO__INGRESS__LISTEN__PORT",
            "80",
            "ingress.listen.port: unknown key; there are no keys below this one",
        ),
        ("WIGZO__", "80", &format!("unknown key; known here: {sections}")),
        (
            "WIGZO__DELIVERY__MAX_IN_FLIGHT",
            HUSH,
            "delivery.max_in_flight: expected a whole number, 0 or more",
        ),
        ("WIGZO__ORGANIZATIONS__ACME__OPEN", "yes", "organizations.acme.open: expected true or false"),
        ("WIGZO_ORGTOKEN", HUSH, &format!("unknown variable; {known}")),
        ("WIGZO_LISTEN", "80", &format!("unknown variable; {known}")),
        (
            "WIGZO_TOKEN",
            HUSH,
            "organizations.default.org_token: missing; give the organization token from Wigzo's settings page, or \
             org_token_file",
        ),
        (
            "WIGZO_ORG_TOKEN",
            "hush-hush-hush with blanks",
            "organizations.default.org_token: an organization token is 10 to 64 letters, digits, `-` and `_`",
        ),
    ] {
        let messages = Bench::new().var(name, value).messages();
        assert_eq!(messages, [format!("environment variable {name}: {expected}")]);
    }
}

/// They are for commands, and set no key; `WIGZO__` ones beside them still do.
#[test]
fn variables_of_commands_are_known_and_change_nothing() {
    for name in ["WIGZO_CONFIG", "WIGZO_ADMIN_URL", "WIGZO_ADMIN_TOKEN", "WIGZO_ADMIN_TOKEN_FILE"] {
        let env = BTreeMap::from([(name.to_owned(), HUSH.to_owned())]);
        let settings = Settings::load(&[], &env).unwrap();
        let without = Settings::load(&[], &BTreeMap::new()).unwrap();
        assert_eq!(print_config(&settings), print_config(&without), "{name}");
    }
}

#[test]
fn every_problem_of_every_layer_is_reported_at_once() {
    let bench = Bench::new()
        .file("a.toml", "[queue]\npth = \"x\"\n[delivery]\nmax_in_flight = true\n[admin]\nlisten = 1")
        .file("b.toml", "[queue")
        .file("c.toml", "[telemetry]\nlog_format = 1")
        .var("WIGZO__QUEUE__PTH", "x")
        .var("WIGZO_TOKN", HUSH);
    let keys: Vec<_> =
        bench.messages().iter().map(|line| line.split(' ').take(3).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        keys,
        [
            "b.toml:1: not TOML:",
            "environment variable WIGZO_TOKN:",
            "environment variable WIGZO__QUEUE__PTH:",
            "a.toml:2: queue.pth: unknown",
            "a.toml:4: delivery.max_in_flight: expected",
            "a.toml:6: admin.listen: expected",
            "c.toml:2: telemetry.log_format: expected",
        ]
    );
}

#[test]
fn a_file_that_cannot_be_read_is_named_with_the_reason() {
    let bench = Bench::new();
    let gone = bench.dir.path().join("gone.toml");
    bench.put("latin1.toml", "");
    fs::write(bench.dir.path().join("latin1.toml"), b"# caf\xe9").unwrap();
    let latin1 = bench.dir.path().join("latin1.toml");
    for (path, expected) in [
        (gone, "the file does not exist"),
        (bench.dir.path().to_owned(), "the file is a directory"),
        (latin1, "the file is not UTF-8 text"),
    ] {
        let problems = Settings::load(std::slice::from_ref(&path), &BTreeMap::new()).unwrap_err();
        let line =
            format!("{}: {expected}; check the path given with --config or WIGZO_CONFIG", path.display());
        assert_eq!(problems.to_string(), line);
    }
}

#[test]
fn contradictions_are_refused() {
    for (text, expected) in [
        (
            "[delivery]\nmax_in_flight = 0",
            "a.toml:2: delivery.max_in_flight: expected a whole number, from 1 to 100000",
        ),
        (
            "[delivery.retry]\nbase = \"1h\"",
            "a.toml:2: delivery.retry.base: `base` (1h) must not be longer than `cap` (10m)",
        ),
        (
            "[delivery.retry]\nhorizon = \"1m\"",
            "a.toml:2: delivery.retry.horizon: `cap` (10m) must not be longer than `horizon` (1m)",
        ),
        ("[queue]\nmax_disk = \"63 MiB\"", "a.toml:2: queue.max_disk: expected at least \"64 MiB\""),
        (
            "[admin]\nlisten = \"0.0.0.0:9090\"",
            "a.toml:2: admin.listen: anybody on this network could read customer data; set admin.token_file, or \
             listen on 127.0.0.1",
        ),
        ("[admin]\ntoken_file = \"DIR/gone\"", "a.toml:2: admin.token_file: the file gone does not exist"),
        (
            "[ingress]\nlisten = \"[::]:8080\"",
            "environment variable WIGZO_ORG_TOKEN: organizations.default: has neither key nor secret, but \
             ingress.listen is [::]:8080: anybody who reaches it could send; set source_keys or shared_secrets (or \
             WIGZO_SOURCE_KEYS, WIGZO_SHARED_SECRETS), or listen on 127.0.0.1",
        ),
        (
            "[organizations.default]\norg_token_file = \"DIR/token\"",
            "a.toml:2: organizations.default.org_token_file: org_token is set as well; keep one of the two",
        ),
        (
            "[organizations.default]\ntoken = \"hush-hush-hush\"\ntoken_file = \"DIR/token\"",
            "a.toml:3: organizations.default.token_file: token is set as well; keep one of the two",
        ),
        (
            "[organizations.acme]\norg_token = \"made-up-org-token\"\nsource_keys = [\"hush-hush-hush\"]\n\
             [organizations.beta]\norg_token = \"made-up-org-token\"\nsource_keys = [\"hush-hush-hush\"]",
            "a.toml:6: organizations.beta.source_keys[0]: this key belongs to organization acme already; a source key \
             leads to one organization",
        ),
        (
            "[organizations.Acme]\norg_token = \"made-up-org-token\"",
            "a.toml:1: organizations.Acme: the name is 1 to 63 lower-case letters, digits, `-` and `_`, and begins \
             with a letter or digit",
        ),
        (
            "[organizations.acme]\nopen = true",
            "a.toml:1: organizations.acme.org_token: missing; give the organization token from Wigzo's settings page, \
             or org_token_file",
        ),
    ] {
        let bench = Bench::with_organization().file("a.toml", text);
        assert_eq!(bench.messages(), [expected], "{text}");
    }
    assert_eq!(
        Bench::new().messages(),
        ["organizations: there is none; set WIGZO_ORG_TOKEN or add [organizations.NAME]"]
    );
    let partners = Bench::new().var("WIGZO__INGRESS__PARTNER_MODE", "true");
    assert_eq!(partners.messages(), [""; 0], "partners need no configuration");
    let hasty = partners.var("WIGZO__DELIVERY__UNPROVEN_PARTNER_MAX_AGE", "0s");
    assert_eq!(hasty.messages().len(), 1, "nothing would be delivered");
}

#[test]
fn an_address_beyond_loopback_is_allowed_with_the_remedy_that_the_message_names() {
    let public = || Bench::with_organization().var("WIGZO__INGRESS__LISTEN", "0.0.0.0:8080");
    for bench in [
        public().var("WIGZO_SOURCE_KEYS", "wk_web"),
        public().var("WIGZO_SHARED_SECRETS", HUSH),
        public().var("WIGZO__ORGANIZATIONS__DEFAULT__OPEN", "true"),
        Bench::with_organization().var("WIGZO__INGRESS__LISTEN", "[::1]:8080"),
        Bench::with_organization().var("WIGZO__INGRESS__LISTEN", "[::ffff:127.0.0.1]:8080"),
    ] {
        assert_eq!(bench.messages(), [""; 0]);
    }
    let bench = Bench::with_organization();
    let path = bench.put("admin", "hush-hush-hush\n");
    let bench = bench
        .var("WIGZO__ADMIN__LISTEN", "0.0.0.0:9090")
        .var("WIGZO__ADMIN__TOKEN_FILE", path.to_str().unwrap());
    assert!(!format!("{:?}", bench.checked().admin_tokens).contains(HUSH));
}

// === Layers ===

#[test]
fn later_layers_win_key_by_key() {
    let bench = Bench::new()
        .file(
            "a.toml",
            "[delivery]\nmax_in_flight = 1\n[delivery.retry]\nbase = \"2s\"\ncap = \"20m\"\n\
             [organizations.default]\norg_token = \"token-of-file-a\"\nsource_keys = [\"a1\", \"a2\"]\n",
        )
        .file("b.toml", "[delivery]\nmax_in_flight = 2\n[delivery.retry]\ncap = \"30m\"\n")
        .var("WIGZO__DELIVERY__MAX_IN_FLIGHT", "3")
        .var("WIGZO__ORGANIZATIONS__DEFAULT__ORG_TOKEN", "token-of-long-name")
        .var("WIGZO__ORGANIZATIONS__DEFAULT__SOURCE_KEYS", "e1, e2 ,")
        .var("WIGZO_ORG_TOKEN", "token-of-short-name")
        .var("WIGZO_TOKEN", "")
        .var("WIGZO_PORT_8080_TCP_ADDR", "10.0.0.1")
        .var("HOME", "/");
    let settings = bench.settings();
    assert_eq!(settings.delivery.max_in_flight, 3);
    assert_eq!(settings.delivery.retry.base.to_string(), "2s");
    assert_eq!(settings.delivery.retry.cap.to_string(), "30m");
    assert_eq!(settings.delivery.retry.horizon.to_string(), "1d");
    let organization = &settings.organizations["default"];
    assert_eq!(organization.org_token.as_ref().unwrap().expose(), "token-of-short-name");
    assert!(organization.token.is_none());
    let keys: Vec<_> = organization.source_keys.iter().map(crate::secret::Secret::expose).collect();
    assert_eq!(keys, ["e1", "e2"], "a list replaces the list below it");
}

#[test]
fn a_variable_names_any_key_of_any_organization() {
    let settings = Bench::new()
        .var("WIGZO__ORGANIZATIONS__ACME__ORG_TOKEN", "made-up-org-token")
        .var("WIGZO__ORGANIZATIONS__ACME__MAX_IN_FLIGHT", "7")
        .var("WIGZO__ORGANIZATIONS__ACME__LINK_ANONYMOUS", "false")
        .var("WIGZO__ORGANIZATIONS__ACME__CONTACTLESS", "skip")
        .var("WIGZO__ORGANIZATIONS__ACME__BASE_URL", "https://shop.example/wigzo/")
        .var("WIGZO__TELEMETRY__LOG_FORMAT", "json")
        .settings();
    let acme = &settings.organizations["acme"];
    assert_eq!((acme.max_in_flight, acme.mapping.link_anonymous), (Some(7), Some(false)));
    assert_eq!(acme.mapping.contactless, Some(crate::translate::Contactless::Skip));
    assert_eq!(acme.base_url.as_ref().unwrap().to_string(), "https://shop.example/wigzo");
    assert_eq!(settings.telemetry.log_format, crate::telemetry::LogFormat::Json);
}

#[test]
fn the_shorthands_make_one_complete_organization() {
    let checked = Bench::with_organization()
        .var("WIGZO_TOKEN", "second")
        .var("WIGZO_SOURCE_KEYS", "wk_web,wk_app")
        .var("WIGZO_SHARED_SECRETS", "one,two")
        .checked();
    assert_eq!(checked.organizations.len(), 1);
    let organization = checked.organizations.by_source_key("wk_app").unwrap();
    assert_eq!(organization.name, "default");
    assert_eq!(organization.shared_secrets.len(), 2);
    assert_eq!(organization.translation.namespace, "made-up-org-token");
}

// === Secret files ===

#[test]
fn secrets_are_read_from_files() {
    let bench = Bench::new();
    bench.put("org", "made-up-org-token\r\n");
    bench.put("token", "second\n");
    bench.put("keys", "wk_1\n\nwk_2\r\n");
    bench.put("secrets", "new\nold");
    let bench = bench.file(
        "a.toml",
        "[organizations.acme]\norg_token_file = \"DIR/org\"\ntoken_file = \"DIR/token\"\n\
         source_keys = [\"wk_0\"]\nsource_keys_file = \"DIR/keys\"\nshared_secrets_file = \"DIR/secrets\"\n",
    );
    let checked = bench.checked();
    for key in ["wk_0", "wk_1", "wk_2"] {
        assert_eq!(checked.organizations.by_source_key(key).unwrap().name, "acme", "{key}");
    }
    let acme = checked.organizations.by_name("acme").unwrap();
    let secrets: Vec<_> = acme.shared_secrets.iter().map(crate::secret::Secret::expose).collect();
    assert_eq!(secrets, ["new", "old"]);
    assert_eq!(acme.translation.namespace, "made-up-org-token");
}

#[test]
fn a_secret_file_without_its_secret_is_named() {
    let bench = Bench::new();
    bench.put("empty", "\n");
    bench.put("two", "hush-hush-hush\nhush-hush-hush\n");
    let bench = bench.file(
        "a.toml",
        "[organizations.acme]\norg_token_file = \"DIR/gone\"\ntoken_file = \"DIR/empty\"\n\
         source_keys_file = \"DIR/empty\"\n[organizations.beta]\norg_token_file = \"DIR/two\"\n",
    );
    assert_eq!(
        bench.messages(),
        [
            "a.toml:2: organizations.acme.org_token_file: the file gone does not exist",
            "a.toml:3: organizations.acme.token_file: the file empty is empty",
            "a.toml:4: organizations.acme.source_keys_file: the file empty is empty",
            "a.toml:6: organizations.beta.org_token_file: the file two holds several lines; expected one",
        ]
    );
}

// === Sandbox ===

#[test]
fn a_sandbox_makes_an_organization_only_where_there_is_none() {
    let address = |organizations: &Organizations, name: &str| {
        let organization = organizations.by_name(name).unwrap();
        organization.address.url(crate::wigzo::Endpoint::Event).expose().to_string()
    };
    let checked = Bench::new().settings().check(true).unwrap();
    assert!(address(&checked.organizations, "default").starts_with("http://127.0.0.1:8090/"));

    let mut settings = Bench::new().settings();
    settings.redirect_to("http://127.0.0.1:4711".parse().unwrap()).unwrap();
    let checked = settings.check(true).unwrap();
    assert!(address(&checked.organizations, "default").starts_with("http://127.0.0.1:4711/"));

    let mut settings = Bench::new()
        .file(
            "a.toml",
            "[organizations.acme]\norg_token = \"made-up-org-token\"\nbase_url = \"https://shop.example\"",
        )
        .settings();
    settings.redirect_to("http://127.0.0.1:4711".parse().unwrap()).unwrap();
    assert!(settings.redirect_to("ftp://127.0.0.1".parse().unwrap()).is_err());
    let checked = settings.check(true).unwrap();
    assert_eq!(checked.organizations.len(), 1);
    assert!(address(&checked.organizations, "acme").starts_with("http://127.0.0.1:4711/"));
}

// === Printing ===

#[test]
fn no_secret_is_ever_printed() {
    let bench = Bench::new().file(
        "a.toml",
        "[organizations.acme]\norg_token = \"hush-hush-hush\"\ntoken = \"hush-hush-hush\"\n\
         source_keys = [\"hush-hush-hush\"]\nshared_secrets = [\"hush-hush-hush\"]\n",
    );
    let checked = bench.checked();
    let printed = print_config(&checked.settings);
    let debug = format!("{checked:?} {:?}", checked.organizations.by_name("acme"));
    assert!(!printed.contains(HUSH), "{printed}");
    assert!(!debug.contains(HUSH), "{debug}");
    assert!(
        printed.contains("org_token = \"***\"\n") && printed.contains("source_keys = [\"***\"]\n"),
        "{printed}"
    );
}

#[test]
fn the_printed_configuration_is_one_that_loads() {
    let first = Bench::new()
        .file(
            "a.toml",
            "[queue]\nmax_disk = \"1.5 GiB\"\n[delivery.retry]\nbase = \"250ms\"\n\
             [organization_defaults]\ncontactless = \"skip\"\n[organizations.acme]\norg_token_file = \"org\"\n",
        )
        .settings();
    let printed = print_config(&first);
    let second = Bench::new().file("b.toml", &printed).settings();
    assert_eq!(print_config(&second), printed);
    assert!(printed.contains("max_disk = \"1.5 GiB\"\n"), "{printed}");
}

// === Warnings ===

#[test]
fn too_few_events_in_flight_for_all_organizations_are_a_warning() {
    let warnings = |max_in_flight: usize| {
        let organizations = ["acme", "globex", "initech"].map(|name| {
            let disabled = name == "initech";
            format!(
                "[organizations.{name}]\norg_token = \"made-up-token-of-{name}\"\ndisabled = {disabled}\n"
            )
        });
        let text = format!("[delivery]\nmax_in_flight = {max_in_flight}\n{}", organizations.concat());
        let warnings = Bench::new().file("a.toml", &text).checked().warnings();
        warnings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let [warning] = &warnings(2)[..] else { panic!("one warning") };
    assert!(
        warning.ends_with(
            "a.toml:2: delivery.max_in_flight: leaves no calls for others when organizations hang: 2 of them are \
             enabled; set at least 3"
        ),
        "{warning}"
    );
    assert!(warnings(3).is_empty());
}

// === The files in config/ ===

fn config_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name)
}

fn load_files(names: &[&str]) -> Settings {
    let files: Vec<_> = names.iter().map(|name| config_file(name)).collect();
    Settings::load(&files, &BTreeMap::new()).unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn the_defaults_file_is_generated_and_up_to_date() {
    let path = config_file("default.toml");
    #[expect(clippy::disallowed_methods, reason = "a test's own switch, not configuration")]
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    if update {
        fs::write(&path, default_toml()).unwrap();
    }
    assert!(
        fs::read_to_string(&path).unwrap_or_default() == default_toml(),
        "config/default.toml is stale; regenerate it: wigzo-destination print-config --default > config/default.toml \
         (or run this test with UPDATE_GOLDEN=1)"
    );
}

#[test]
fn the_defaults_file_equals_the_defaults() {
    let mut expected = Settings::default();
    expected.queue.path = std::path::absolute(expected.queue.path).unwrap();
    assert_eq!(print_config(&load_files(&["default.toml"])), print_config(&expected));
}

/// Every commented example, uncommented, is a configuration too.
#[test]
fn the_examples_in_the_defaults_file_load() {
    let text = default_toml();
    let uncommented: String = text
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(code) if code.starts_with('[') || code.split(' ').nth(1) == Some("=") => format!("{code}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let settings = Bench::new().file("a.toml", &uncommented).settings();
    assert_eq!(settings.organizations["acme"].source_keys.len(), 2);
    for line in text.lines() {
        assert!(line.chars().count() <= 100 || !line.starts_with('#'), "{line}");
    }
}

#[test]
fn the_example_files_are_configurations() {
    let one = load_files(&["example.toml"]).check(false).unwrap();
    assert_eq!(one.organizations.by_source_key("wk_shop_web").unwrap().name, "shop");
    let many = load_files(&["example.toml", "organizations.example.toml"]).check(false).unwrap();
    let names: Vec<_> = many.organizations.iter().map(|organization| organization.name.as_str()).collect();
    assert_eq!(names, ["acme", "bazaar", "corner-shop", "shop"]);
    assert_eq!(many.organizations.by_name("acme").unwrap().max_in_flight, 32);
}
