//! Tests of the reader itself: on small crates, what it sees and what it follows.

use crate::rust::{self, Import};
use crate::uses::{Sources, arrows_between_neighbours, circles};

fn import(path: &str, name: &str) -> Import {
    let name = (!name.is_empty()).then(|| name.to_owned());
    Import { path: path.split("::").map(str::to_owned).collect(), name }
}

/// The arrows between neighbours, in the form `layer::tree -> layer::path`.
fn arrows(files: &[(&str, &str)]) -> Vec<String> {
    arrows_between_neighbours(&Sources::read(files.iter().copied(), false))
        .keys()
        .map(|(from, to)| format!("{} -> {}", from.join("::"), to.join("::")))
        .collect()
}

#[test]
fn imports_are_read_to_their_leaves() {
    let cases: [(&str, &[Import]); 7] = [
        ("use crate::oci::Digest;", &[import("crate::oci::Digest", "Digest")]),
        (
            "pub use self::{a::{self, B as C}, d::*};",
            &[import("self::a", "a"), import("self::a::B", "C"), import("self::d", "")],
        ),
        ("fn f() { use super::g as _; }", &[import("super::g", "_")]),
        ("use ::std::fmt::{Debug,};", &[import("std::fmt::Debug", "Debug")]),
        ("// use a::b;\n/* use c::d; /* */ use e::f; */", &[]),
        (
            r##"const TEXT: &str = r#"use "a"::b;"#; const C: char = '"'; use d::e;"##,
            &[import("d::e", "e")],
        ),
        (r#"fn f<'a>() { g("\" use a::b; \\"); } use d::e;"#, &[import("d::e", "e")]),
    ];
    for (code, expected) in cases {
        assert_eq!(rust::read(code, false).imports, expected, "{code}");
    }
}

#[test]
fn paths_are_read_wherever_they_stand() {
    let cases: [(&str, &[&str]); 6] = [
        ("fn f() -> crate::layer::Tree<u8> {}", &["crate::layer::Tree"]),
        ("fn f() { a::b::<c::D>(&self.e, 'x') }", &["a::b", "c::D"]),
        ("fn f() { <T as a::B>::c(); d.e::<F>(); }", &["a::B"]),
        ("fn f() { format!(\"{}\", super::name()) }", &["super::name"]),
        ("fn f(x: &'static str) { b'\\''; a::b }", &["a::b"]),
        ("fn f() { \"a::b\"; r\"c::\\\"; d::e }", &["d::e"]),
    ];
    for (code, expected) in cases {
        let paths = rust::read(code, false).paths;
        assert_eq!(
            paths.iter().map(|path| path.join("::")).collect::<Vec<_>>(),
            expected,
            "{code}"
        );
    }
}

#[test]
fn items_are_those_of_the_top_level() {
    let code = "pub(super) async fn a() { struct Inner; }\nconst B: u8 = 1;\nimpl C { fn d() {} }\n\
                pub const fn e() {}\nmacro_rules! f { () => {} }\nstruct r#G<T>(T);";
    let items = rust::read(code, false).items;
    for name in ["a", "B", "e", "f", "G"] {
        assert!(items.iter().any(|item| item == name), "{name} of {items:?}");
    }
    for name in ["Inner", "d", "C"] {
        assert!(items.iter().all(|item| item != name), "{name} of {items:?}");
    }
}

#[test]
fn tests_are_left_out_unless_they_are_asked_for() {
    let code = "use a::b;\n#[cfg(test)]\nuse c::{d, e};\n#[cfg(test)]\nmod tests { use f::g; }\n\
                #[cfg(test)]\nmod more;\n#[cfg(test)]\n#[expect(x)]\nfn h(i: [u8; 2]) { j::k() }\nuse l::m;";
    let read = rust::read(code, false);
    assert_eq!(read.imports, [import("a::b", "b"), import("l::m", "m")]);
    assert_eq!((read.paths.len(), read.test_modules), (0, vec!["more".to_owned()]));
    assert_eq!(rust::read(code, true).imports.len(), 5);
}

#[test]
fn a_root_and_its_parts_may_use_each_other() {
    let files = [
        ("lib.rs", "mod a;"),
        ("a/mod.rs", "mod b; use b::B; pub struct A(B);"),
        ("a/b/mod.rs", "mod c; pub use c::C; use super::A; pub struct B;"),
        ("a/b/c.rs", "use super::super::A; pub struct C(super::B);"),
    ];
    assert!(arrows(&files).is_empty());
}

#[test]
fn an_arrow_is_drawn_between_the_neighbours_that_hold_the_files() {
    let files = [
        ("lib.rs", "mod a; mod z;"),
        ("a/mod.rs", "mod b; mod c;"),
        ("a/b.rs", "fn f() { super::c::d::g() }"),
        ("a/c/mod.rs", "mod d; mod e;"),
        ("a/c/d.rs", "use crate::a::c::e; use super::e::E; pub fn g() {}"),
        ("a/c/e.rs", "use crate::z::Z; pub struct E;"),
        ("z.rs", "pub struct Z;"),
    ];
    assert_eq!(arrows(&files), ["a -> z", "a::b -> a::c", "a::c::d -> a::c::e"]);
}

#[test]
fn a_reexport_hides_no_arrow() {
    let root = "mod b; mod c; pub use c::{C as Other, D}; use c::inner; pub struct Own;";
    let c = ("a/c.rs", "pub struct C; pub enum D { E } pub mod inner { pub fn f() {} }");
    for (b, expected) in [
        ("use super::Other;", &["a::b -> a::c"][..]),
        ("use crate::a::{Own, D::E};", &["a::b -> a::c"]),
        ("use super::inner; fn g() { inner::f() }", &["a::b -> a::c"]),
        ("use super::D; fn g() { D::E }", &["a::b -> a::c"]),
        ("fn g(x: super::Other) {}", &["a::b -> a::c"]),
        ("use super::Own; use std::fmt; fn g() { fmt::f() }", &[]),
        ("use super::*; fn g(x: Own) {}", &[]),
    ] {
        let files = [("lib.rs", "mod a;"), ("a/mod.rs", root), ("a/b.rs", b), c];
        assert_eq!(arrows(&files), expected, "{b}");
    }
}

#[test]
fn a_reexport_of_all_names_hides_no_arrow() {
    let files = [
        ("lib.rs", "mod a;"),
        ("a/mod.rs", "mod b; mod c; mod d; pub use c::*; pub use d::*;"),
        ("a/b.rs", "use super::D;"),
        ("a/c.rs", "pub struct C;"),
        ("a/d.rs", "pub struct D;"),
    ];
    assert_eq!(arrows(&files), ["a::b -> a::d"]);
}

#[test]
fn reexports_in_a_ring_end() {
    let files = [
        ("lib.rs", "mod a; mod b;"),
        ("a.rs", "pub use crate::b::*; pub use crate::b::X;"),
        ("b.rs", "pub use crate::a::*; pub use crate::a::X;"),
    ];
    assert_eq!(arrows(&files), ["a -> b", "b -> a"]);
}

#[test]
fn a_circle_is_found_over_several_files() {
    let files = [
        ("lib.rs", "mod a; mod b; mod c; mod d;"),
        ("a.rs", "use crate::b::B; pub struct A;"),
        ("b.rs", "use crate::c; pub struct B;"),
        ("c.rs", "use crate::a::A; use crate::d::D;"),
        ("d.rs", "pub struct D;"),
    ];
    let arrows = arrows_between_neighbours(&Sources::read(files, false)).into_keys().collect();
    let found: Vec<_> = circles(&arrows).into_iter().map(|(from, to)| [&from[0], &to[0]]).collect();
    assert_eq!(found, [["a", "b"], ["b", "c"], ["c", "a"]]);
}
