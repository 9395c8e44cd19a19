//! Where no sandbox works: what needs none is done all the same, and gives the same layers as in one.

#![cfg(test)]

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use fs_err as fs;
use http_body_util::{BodyExt as _, Full};
use hyper::Response;
use serde_json::Value;
use support::{
    Docker, GolangImage, HttpServer, LOCKED_DOWN, Namespaces, Need, Run, Sandbox, Stored, go, need,
    program, root, run, without_landlock,
};

/// Steps that only move files, on a base with users, links and hard links.
const COPIES: [(&str, &str); 10] = [
    ("workdir", "FROM base\nWORKDIR /link/deep\nWORKDIR ../other\nCOPY main.go .\n"),
    ("names", "FROM base\nCOPY --chown=app:staff lib /lib\nUSER app\nWORKDIR /home/app/x\n"),
    (
        "numbers",
        "FROM base\nCOPY --chown=7:8 --chmod=640 main.go /a/b/c\nCOPY --chmod=u=rwx,go= lib /d\n",
    ),
    (
        "below-a-link",
        "FROM base\nCOPY main.go /link/main.go\nCOPY lib /bin/lib\nCOPY main.go /link\n",
    ),
    (
        "over-files",
        "FROM base\nCOPY main.go /srv/real/one\nCOPY lib /srv\nCOPY go.mod /etc/passwd\n",
    ),
    (
        "linked",
        "FROM base\nCOPY --link main.go /link/x\nCOPY --parents lib/./lib.go /p/\nCOPY --link --chown=9 lib /q\n",
    ),
    (
        "archive",
        "FROM base\nADD tree.tar /t/\nADD --chown=app tree.tar /link/\nADD --unpack=false tree.tar /u/\n",
    ),
    ("heredoc", "FROM base\nCOPY --chown=app <<EOF /link/text\nhello\nEOF\n"),
    (
        "stages",
        "FROM base AS one\nCOPY --chown=app lib /one/lib\nWORKDIR /one/made\nFROM base AS two\n\
         COPY --from=one /one /two\nCOPY --from=one /srv/real /all\nCOPY --from=one --chown=app /etc/passwd /p\n\
         FROM scratch\nCOPY --from=two / /\nCOPY --from=base /srv /srv\n",
    ),
    (
        "globs",
        "FROM base AS one\nFROM scratch\nCOPY --from=one /srv/re* /etc/p?sswd /x/\nCOPY --exclude=*.mod . /y/\n",
    ),
];

/// Steps of go commands. `SOURCES` stands for a base with Go, a folder and the sources in it.
const PROGRAMS: [(&str, &str); 26] = [
    ("plain", "SOURCES\nRUN go build -trimpath -o /out/app .\n"),
    ("beside", "SOURCES\nRUN go build -trimpath -o bin/ ./...\n"),
    ("no-name", "SOURCES\nRUN go build -trimpath\n"),
    (
        "foreign",
        "SOURCES\nRUN CGO_ENABLED=0 GOOS=linux GOARCH=arm64 go build -trimpath -ldflags=\"-s -w -X 'main.version=1 2'\" \
         -o /usr/local/bin/app .\n",
    ),
    ("heredoc", "SOURCES\nRUN <<EOF\n  go build -trimpath -o app\nEOF\n"),
    ("words", "SOURCES\nRUN [\"go\", \"build\", \"-trimpath\", \"-o\", \"app\"]\n"),
    (
        "several",
        "SOURCES\nRUN go mod download && go mod verify \\\n  && go version && go env GOOS && \\\n  go build -trimpath\n",
    ),
    ("install", "SOURCES\nRUN go install -trimpath ./... \n"),
    ("install-for-another", "SOURCES\nENV GOARCH=arm64\nRUN go install -trimpath ./cmd/tool\n"),
    ("install-elsewhere", "SOURCES\nENV GOBIN=/opt/bin\nRUN go install -trimpath ./cmd/tool\n"),
    ("flags", "SOURCES\nENV GOFLAGS=\"-trimpath -tags=extra\"\nRUN go build -o app\n"),
    (
        "twice",
        "SOURCES\nRUN go build -trimpath -o out/app\nRUN go build -trimpath -ldflags=-s -o out/app\n",
    ),
    ("link", "FROM golang\nWORKDIR /link/x\nCOPY . .\nRUN go build -trimpath -o /link/app\n"),
    ("tags", "SOURCES\nRUN go build -trimpath -tags extra -v -o app main.go extra.go\n"),
    ("deep", "SOURCES\nWORKDIR cmd/tool\nRUN go build -trimpath -o ../../tool\n"),
    ("by-path", "SOURCES\nRUN go build -trimpath -o /tool /app/cmd/tool\n"),
    (
        "owners",
        "FROM golang\nWORKDIR /app\nCOPY --chown=5:6 --chmod=u=rwX,go= . .\nRUN go build -trimpath -o app\n",
    ),
    (
        "replaced",
        "FROM golang\nWORKDIR /src/app\nCOPY replacing .\nCOPY lib ../lib\nRUN go build -trimpath -o /app\n",
    ),
    (
        "workspace",
        "FROM golang\nWORKDIR /src\nCOPY work .\nCOPY lib lib\nRUN go build -trimpath -o /app ./app\n",
    ),
    (
        "cache-mounts",
        "SOURCES\nRUN --mount=type=cache,target=/root/.cache/go-build --mount=type=cache,target=/go/pkg/mod \
         go build -trimpath -o app\n",
    ),
    (
        "wide-cache-mount",
        "SOURCES\nRUN --mount=type=cache,target=/root/.cache go build -trimpath -o app\n",
    ),
    ("position-independent", "SOURCES\nRUN go build -trimpath -buildmode=pie -o app\n"),
    ("with-c-asked-for", "SOURCES\nENV CGO_ENABLED=1\nRUN go build -trimpath -o app\n"),
    ("debugged", "SOURCES\nRUN go build -trimpath -gcflags='all=-N -l' -o app\n"),
    (
        "temporary",
        "FROM golang\nWORKDIR /work/tmp\nWORKDIR /app\nCOPY . .\nENV TMPDIR=/work/tmp\nSHELL [\"/bin/sh\", \"-ec\"]\n\
         RUN go build -trimpath\n",
    ),
    (
        "stages",
        "SOURCES\nRUN go build -trimpath -o /out/app\nFROM scratch AS last\nCOPY --from=0 /out/app /app\n\
         FROM base\nCOPY --from=last --chown=app /app /link/\nENTRYPOINT [\"/link/app\"]\n",
    ),
];

/// A context with everything that the cases copy.
fn write_context(sandbox: &Sandbox) {
    let write = |name: &str, text: &str| drop(sandbox.write(&format!("ctx/{name}"), text));
    write("go.mod", "module example.com/hello\n\ngo 1.21\n");
    write(
        "main.go",
        "package main\n\nimport (\n\t_ \"embed\"\n\t\"fmt\"\n)\n\n//go:embed go.mod\nvar text string\n\n\
         var version, extra string\n\nfunc main() { fmt.Println(version, extra, text) }\n",
    );
    write("extra.go", "//go:build extra\n\npackage main\n\nfunc init() { extra = \"more\" }\n");
    write("cmd/tool/main.go", "package main\n\nfunc main() { println(\"tool\") }\n");
    write("lib/go.mod", "module example.com/lib\n\ngo 1.21\n");
    write("lib/lib.go", "package lib\n\nconst Name = \"lib\"\n");
    let uses = "package main\n\nimport \"example.com/lib\"\n\nfunc main() { println(lib.Name) }\n";
    let module = "module example.com/app\n\ngo 1.21\n\nrequire example.com/lib v0.0.0\n";
    write("replacing/go.mod", &format!("{module}\nreplace example.com/lib => ../lib\n"));
    write("replacing/main.go", uses);
    write("work/go.work", "go 1.21\n\nuse (\n\t./app\n\t./lib\n)\n");
    write("work/app/go.mod", module);
    write("work/app/main.go", uses);
    let tree =
        ["-C", "ctx", "--sort=name", "--owner=3", "--group=4", "-cf", "ctx/tree.tar", "lib", "cmd"];
    support::succeed(std::process::Command::new("tar").args(tree).current_dir(sandbox.work()));
}

/// Makes the layouts `base` and `golang`: users, links, a shell; and that with Go.
fn make_bases(sandbox: &Sandbox) -> Need<()> {
    let busybox = program("busybox")?;
    go()?;
    GolangImage::of_this_machine()?.write(&sandbox.path("only-go"));
    fs::create_dir_all(sandbox.path("bases")).unwrap();
    fs::copy(busybox, sandbox.path("bases/busybox")).unwrap();
    for (name, from) in [("base", "scratch"), ("golang", "only-go")] {
        let text = format!(
            "FROM {from}\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n\
             RUN mkdir -p /tmp /root /etc /home /srv/real /go/bin && chmod 1777 /tmp /go /go/bin && chmod 700 /root && \
             ln -s srv/real /link && echo one >/srv/real/one && ln /srv/real/one /srv/real/two && \
             chown 1000:50 /srv/real && \
             printf 'root:x:0:0::/root:/bin/sh\\napp:x:1000:1001::/home/app:\\n' >/etc/passwd && \
             printf 'root:x:0:\\nstaff:x:50:\\napp:x:1001:\\n' >/etc/group\n"
        );
        sandbox.write("bases/Dockerfile", text);
        let output = format!("oci:{name}");
        let only_go = "only-go=oci-layout://only-go";
        let arguments = [
            "build",
            "--sandbox=ns",
            "-t",
            name,
            "-o",
            &output,
            "--build-context",
            only_go,
            "bases",
        ];
        sandbox.gondola(&arguments).success();
    }
    Ok(())
}

/// The arguments of a build of a case.
fn arguments<'a>(file: &'a str, output: &'a str, contexts: &'a [String; 2]) -> Vec<&'a str> {
    let [base, golang] = contexts;
    vec![
        "build",
        "-f",
        file,
        "-t",
        "x",
        "-o",
        output,
        "--build-context",
        base,
        "--build-context",
        golang,
    ]
}

fn contexts(folder: &str) -> [String; 2] {
    ["base", "golang"].map(|name| format!("{name}=oci-layout://{folder}{name}"))
}

fn text_of(case: &str) -> String {
    case.replace(
        "SOURCES",
        "FROM golang\nWORKDIR /app\nCOPY go.mod .\nRUN go mod download\nCOPY . .",
    )
}

/// What is in the layers of an image: of a line for each entry the case's own first.
fn layers(folder: &Path) -> Vec<String> {
    let image = Stored::folder(folder).image(None);
    let digests = image.manifest["layers"].as_array().unwrap().iter();
    let digests = digests.map(|layer: &Value| layer["digest"].as_str().unwrap().to_owned());
    let lines = image.layers.iter().map(|layer| {
        let line = |entry: &support::Entry| {
            let support::Entry { path, kind, mode, uid, gid, mtime, target, bytes } = entry;
            let hash = blake3::hash(bytes).to_hex();
            format!("{path} {kind} {mode:o} {uid}:{gid} {mtime} {target} {}", &hash[..8])
        };
        layer.iter().map(line).collect::<Vec<_>>().join("\n  ")
    });
    digests.zip(lines).map(|(digest, lines)| format!("{digest}\n  {lines}")).collect()
}

/// Builds all cases in a sandbox here, and in a container where there is none; compares all layers.
fn compare(cases: &[(&str, &str)], is_looked_at: impl Fn(&str)) {
    need!(root("comparing with a sandbox"));
    let docker = need!(Docker::start());
    let busybox = need!(program("busybox"));
    let mut sandbox = Sandbox::new();
    sandbox.set("SOURCE_DATE_EPOCH", "1700000000");
    need!(make_bases(&sandbox));
    write_context(&sandbox);
    for (name, text) in cases {
        sandbox.write(&format!("cases/{name}"), text_of(text));
    }
    fs::create_dir_all(sandbox.path("there")).unwrap();
    let work = sandbox.work();
    run("chmod", &["-R", "a+rX", work.parent().unwrap().to_str().unwrap()]);
    run("chmod", &["777", sandbox.path("there").to_str().unwrap()]);

    let image = docker.image_with_gondola(
        &sandbox.path("image"),
        &[(&busybox, "/bin/sh"), (&busybox, "/usr/bin/busybox")],
    );
    let volume = format!("--volume={}:/work:ro", work.display());
    let output = format!("--volume={}:/there", sandbox.path("there").display());
    let (file, to) = ("/work/cases/$name", "oci:/there/$name");
    let there = contexts("/work/");
    let build = arguments(file, to, &there).join(" ");
    let names: Vec<&str> = cases.iter().map(|(name, _)| *name).collect();
    let script = format!(
        "for name in {}; do echo \"== $name\" >&2; gondola {build} /work/ctx || exit 1; done; \
         echo kept: $(busybox ls /tmp/store/gondola/rootfs) >&2",
        names.join(" ")
    );
    let epoch = "--env=SOURCE_DATE_EPOCH=1700000000";
    let own = ["run", "--rm", "--env=PATH=/usr/bin", epoch, &volume, &output];
    let command = [&own[..], &LOCKED_DOWN, &[&image, "/bin/sh", "-c", &script]].concat();
    let ran = Run::of(&mut docker.command(&command)).success();
    is_looked_at(&ran.stderr);

    let mut different = BTreeMap::new();
    for (name, _) in cases {
        let (file, to) = (format!("cases/{name}"), format!("oci:here/{name}"));
        let here = contexts("");
        let mut arguments = arguments(&file, &to, &here);
        arguments.extend(["--sandbox=ns", "ctx"]);
        sandbox.gondola(&arguments).success();
        let in_sandbox = layers(&sandbox.path(&format!("here/{name}")));
        let without = layers(&sandbox.path(&format!("there/{name}")));
        if in_sandbox != without {
            let differ = |(one, other): &(String, String)| one != other;
            let all = in_sandbox.into_iter().zip(without).filter(differ);
            different.insert(name, all.collect::<Vec<_>>());
        }
    }
    assert!(different.is_empty(), "{different:#?}");
}

#[test]
fn files_are_moved_without_a_sandbox_and_without_unpacking_a_base() {
    compare(&COPIES, |said| {
        assert!(said.contains("kept:\n"), "{said}");
        assert!(!said.contains("warning"), "{said}");
    });
}

/// What is unpacked in the store.
fn unpacked(sandbox: &Sandbox) -> Vec<String> {
    let forms = fs::read_dir(sandbox.store().join("gondola/rootfs"));
    let folders =
        forms.into_iter().flatten().flat_map(|form| fs::read_dir(form.unwrap().path()).unwrap());
    folders.map(|folder| folder.unwrap().path().display().to_string()).collect()
}

/// Builds a case, and gives its layers.
fn built(sandbox: &Sandbox, name: &str) -> Vec<String> {
    let (file, to) = (format!("cases/{name}"), format!("oci:out/{name}"));
    let _ = fs::remove_dir_all(sandbox.path("out"));
    let contexts = contexts("");
    let mut arguments = arguments(&file, &to, &contexts);
    arguments.extend(["--sandbox=ns", "ctx"]);
    sandbox.gondola(&arguments).success();
    layers(&sandbox.path(&format!("out/{name}")))
}

#[test]
fn no_base_is_unpacked_for_files_where_a_sandbox_works_and_layers_are_those_of_one_that_is() {
    need!(root("making a base"));
    let mut sandbox = Sandbox::new();
    sandbox.set("SOURCE_DATE_EPOCH", "1700000000");
    need!(make_bases(&sandbox));
    write_context(&sandbox);
    for (name, text) in COPIES {
        sandbox.write(&format!("cases/{name}"), text);
    }
    sandbox.write("cases/program", "FROM base\nRUN [\"/bin/busybox\", \"true\"]\n");
    fs::remove_dir_all(sandbox.store()).unwrap();
    // The second time it is remembered what the base holds.
    for text in ["package main // one\n", "package main // two\n"] {
        sandbox.write("ctx/main.go", text);
        for (name, _) in COPIES {
            let looked_at = built(&sandbox, name);
            assert_eq!(unpacked(&sandbox), [""; 0], "{name}");
            let plain = sandbox.store().display().to_string();
            sandbox.set("GONDOLA_HOME", &format!("{plain}-unpacked"));
            let program = built(&sandbox, "program");
            assert!(!program.is_empty());
            let in_root = built(&sandbox, name);
            sandbox.set("GONDOLA_HOME", &plain);
            assert_eq!(looked_at, in_root, "{name}");
        }
    }
    let there = format!("{}-unpacked", sandbox.store().display());
    assert!(Path::new(&there).join("gondola/rootfs").exists());
    fs::remove_dir_all(there).unwrap();
}

/// Files behind programs whose results are known, and how many folders are unpacked for them: those of the base
/// and of each program are, where a program follows.
const BEHIND: [(&str, &str, bool); 4] = [
    (
        "behind",
        "FROM base\nRUN echo x >/srv/y\nCOPY --chown=app main.go /link/z\nWORKDIR /link/w\n",
        false,
    ),
    ("stage", "FROM base AS one\nRUN echo x >/srv/y\nFROM one\nCOPY main.go /link/z\n", false),
    ("before", "FROM base\nCOPY main.go /link/z\nRUN cat /srv/real/z >/srv/y\n", true),
    (
        "above",
        "FROM base AS one\nCOPY main.go /link/z\nFROM one\nRUN cat /srv/real/z >/srv/y\n",
        true,
    ),
];

#[test]
fn files_behind_the_last_program_take_no_root_file_system() {
    need!(root("making a base"));
    let mut sandbox = Sandbox::new();
    sandbox.set("SOURCE_DATE_EPOCH", "1700000000");
    need!(make_bases(&sandbox));
    write_context(&sandbox);
    for (name, text, unpacks) in BEHIND {
        sandbox.write(&format!("cases/{name}"), text);
        sandbox.write("ctx/main.go", "one\n");
        fs::remove_dir_all(sandbox.store()).unwrap();
        built(&sandbox, name);
        assert_ne!(unpacked(&sandbox), [""; 0], "{name}");
        // Another machine, or one on which it was removed.
        fs::remove_dir_all(sandbox.store().join("gondola/rootfs")).unwrap();
        sandbox.write("ctx/main.go", "two\n");
        let again = built(&sandbox, name);
        assert_eq!(!unpacked(&sandbox).is_empty(), unpacks, "{name}: {:?}", unpacked(&sandbox));
        fs::remove_dir_all(sandbox.store()).unwrap();
        assert_eq!(again, built(&sandbox, name), "{name}");
    }
}

#[test]
fn go_commands_give_the_same_layers_without_a_sandbox() {
    compare(&PROGRAMS, |said| {
        assert!(said.contains("no sandbox works here: go commands are executed by"), "{said}");
        // Of all that the image has only its Go is there.
        assert!(said.contains("kept: folder\n"), "{said}");
    });
}

/// Steps that are not executed without a sandbox, with words of why and of what to do.
const REFUSED: [(&str, &str, &str); 24] = [
    (
        "ARG TARGETOS\nRUN GOOS=$TARGETOS go build -trimpath",
        "$ takes a shell",
        "help: put ENV GOOS=$TARGETOS in front of the step, and leave GOOS out here",
    ),
    (
        "ARG TARGETARCH\nRUN CGO_ENABLED=0 GOARCH=\"${TARGETARCH}\" go build -trimpath",
        "$ takes a shell",
        "help: put ENV GOARCH=$TARGETARCH in front of the step",
    ),
    ("RUN GOOS=$(uname) go build -trimpath", "$ takes a shell", "help: write words"),
    ("RUN GOOS=${A:-linux} go build -trimpath", "$ takes a shell", "help: write words"),
    ("RUN go build", "without -trimpath", "help: go build -trimpath"),
    ("RUN go build -trimpath -o $OUT", "$ takes a shell", "help: write the value"),
    ("RUN go build -trimpath; ls", "';' takes a shell", "help: write words"),
    ("RUN go build -trimpath | cat", "'|' takes a shell", "help: write words"),
    ("RUN go build -trimpath cmd/*", "'*' takes a shell", "help: write words"),
    ("RUN apk add git && go build -trimpath", "apk is not go", "help: only go build"),
    ("RUN go generate ./...", "go generate may execute code", "help: only go build"),
    ("RUN go test ./...", "go test may execute code", "help: only go build"),
    ("RUN go build -trimpath -toolexec=/x", "-toolexec=/x is not known", "help: leave it out"),
    (
        "ENV GOFLAGS=-toolexec=/x\nRUN go build -trimpath",
        "-toolexec=/x is not known",
        "help: leave it",
    ),
    (
        "ENV GOCACHEPROG=/x\nRUN go build -trimpath",
        "GOCACHEPROG has go do more",
        "help: leave GOCACHEPROG",
    ),
    ("RUN CGO_ENABLED=1 go build -trimpath ./net", "net has C code", "help: ENV CGO_ENABLED=0"),
    ("USER app\nRUN go build -trimpath", "what USER app may write to", "help: put USER behind"),
    (
        "RUN --mount=type=bind,target=/m go build -trimpath",
        "the mount at /m",
        "help: COPY what it shows",
    ),
    ("WORKDIR /\nRUN go build -trimpath", "/ is the whole image", "help: WORKDIR /src"),
    ("RUN <<EOF\ngo version\ngo env\nEOF", "a second line takes a shell", "help: write words"),
    ("ENV GOPROXY=file:///p\nRUN go mod download", "GOPROXY names a folder", "help: name a server"),
    (
        "COPY <<EOF go.mod\nmodule m\n\ngo 1.21\n\nreplace x => /far/y\nEOF\nRUN go build -trimpath",
        "/app/go.mod:5 leads to /far/y, which is another folder on this machine",
        "help: write ../far/y there",
    ),
    (
        "COPY <<EOF go.work\ngo 1.21\nuse .\nuse ../../../far/y\nEOF\nRUN go build -trimpath",
        "/app/go.work:3 leads to ../../../far/y, above the root",
        "help: write ../far/y there",
    ),
    ("RUN ls /", "--sandbox toolchain asks for none", "help: --sandbox auto"),
];

#[test]
fn other_steps_are_refused_with_what_to_do() {
    need!(root("making a base"));
    let sandbox = Sandbox::new();
    need!(make_bases(&sandbox));
    write_context(&sandbox);
    sandbox.write("ctx/net/main.go", "package main\n\nimport _ \"net\"\n\nfunc main() {}\n");
    let here = contexts("");
    for (steps, why, fix) in REFUSED {
        sandbox.write("cases/it", format!("FROM golang\nWORKDIR /app\nCOPY . .\n{steps}\n"));
        let mut arguments = arguments("cases/it", "oci:out", &here);
        arguments.extend(["--sandbox=toolchain", "ctx"]);
        let run = sandbox.gondola(&arguments).code(1).says(why).says(fix);
        assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
    }
    // Whoever asks for a sandbox gets no less.
    sandbox.write(
        "cases/it",
        "FROM golang\nWORKDIR /app\nCOPY . .\nRUN CGO_ENABLED=1 go build -trimpath\n",
    );
    let mut arguments = arguments("cases/it", "oci:out", &here);
    arguments.extend(["--sandbox=toolchain", "ctx"]);
    // Without a package of C code it does not matter.
    sandbox.gondola(&arguments).success();
}

#[test]
fn links_that_lead_out_by_way_of_others_are_refused() {
    need!(root("making a base"));
    let sandbox = Sandbox::new();
    need!(make_bases(&sandbox));
    sandbox.write("ctx/go.mod", "module example.com/hello\n\ngo 1.21\n");
    sandbox.write("ctx/main.go", "package main\n\nfunc main() {}\n");
    fs::create_dir(sandbox.path("ctx/a")).unwrap();
    std::os::unix::fs::symlink("..", sandbox.path("ctx/a/up")).unwrap();
    // By their texts both stay in the folder.
    std::os::unix::fs::symlink("a/up/../etc/passwd", sandbox.path("ctx/more.go")).unwrap();
    sandbox
        .write("cases/it", "FROM golang\nWORKDIR /app\nCOPY . .\nRUN go build -trimpath -o /x .\n");
    let here = contexts("");
    let mut arguments = arguments("cases/it", "oci:out", &here);
    arguments.extend(["--sandbox=toolchain", "ctx"]);
    let refused = sandbox.gondola(&arguments).code(1);
    let refused = refused.says("cannot use /app/more.go: it leads to a/up/../etc/passwd");
    refused.says("leave the link out");
    fs::remove_file(sandbox.path("ctx/more.go")).unwrap();
    sandbox.gondola(&arguments).success();
}

#[test]
fn without_landlock_go_commands_are_executed_only_where_that_is_asked_for() {
    need!(root("making a base"));
    let sandbox = Sandbox::new();
    need!(make_bases(&sandbox));
    write_context(&sandbox);
    sandbox
        .write("cases/it", "FROM golang\nWORKDIR /app\nCOPY . .\nRUN go build -trimpath -o /x .\n");
    let here = contexts("");
    let mut arguments = arguments("cases/it", "oci:out", &here);
    arguments.push("ctx");
    let refused = without_landlock(Namespaces::Refused, || sandbox.gondola(&arguments));
    let refused = refused.code(1).says("this kernel has no Landlock").says("no sandbox: ");
    refused.says("--sandbox toolchain, which runs it all the same");
    arguments.push("--sandbox=toolchain");
    without_landlock(Namespaces::Refused, || sandbox.gondola(&arguments)).success();
}

/// A program that writes the archive of a module.
const ZIP: &str = "package main\n\nimport (\n\t\"archive/zip\"\n\t\"os\"\n)\n\nfunc main() {\n\tfile, _ := os.Create(os.Args[1])\n\t\
    out := zip.NewWriter(file)\n\tfor name, text := range map[string]string{\"go.mod\": \"module example.com/dep\\n\", \
    \"dep.go\": \"package dep\\n\\nconst Name = \\\"dep\\\"\\n\"} {\n\t\tpart, _ := out.Create(\"example.com/dep@v1.0.0/\" + name)\n\t\t\
    part.Write([]byte(text))\n\t}\n\tout.Close()\n}\n";

/// A server with one module.
fn proxy(sandbox: &Sandbox, go: &Path) -> HttpServer {
    let main = sandbox.write("zip/main.go", ZIP);
    let archive = sandbox.path("zip/module.zip");
    let mut make = std::process::Command::new(go);
    make.arg("run").arg(main).arg(&archive).env_clear().envs(sandbox.environment());
    support::succeed(&mut make);
    let archive = fs::read(archive).unwrap();
    HttpServer::start(None, move |request| {
        let found = match request.uri().path().strip_prefix("/example.com/dep/@v/") {
            Some("list") => Some(b"v1.0.0\n".to_vec()),
            Some("v1.0.0.info") => {
                Some(br#"{"Version":"v1.0.0","Time":"2020-01-01T00:00:00Z"}"#.to_vec())
            }
            Some("v1.0.0.mod") => Some(b"module example.com/dep\n".to_vec()),
            Some("v1.0.0.zip") => Some(archive.clone()),
            _ => None,
        };
        async move {
            let (status, bytes) = found.map_or((404, Vec::new()), |bytes| (200, bytes));
            let body = Full::new(Bytes::from(bytes)).map_err(|never| match never {});
            Ok(Response::builder().status(status).body(body.boxed_unsync()).unwrap())
        }
    })
}

#[test]
fn modules_are_fetched_into_the_cache_and_go_sum_is_the_same() {
    need!(root("comparing with a sandbox"));
    let go = need!(go());
    let mut sandbox = Sandbox::new();
    sandbox.set("SOURCE_DATE_EPOCH", "1700000000");
    need!(make_bases(&sandbox));
    let server = proxy(&sandbox, &go);
    sandbox.write(
        "ctx/go.mod",
        "module example.com/app\n\ngo 1.21\n\nrequire example.com/dep v1.0.0\n",
    );
    let main = "package main\n\nimport \"example.com/dep\"\n\nfunc main() { println(dep.Name) }\n";
    sandbox.write("ctx/main.go", main);
    let text = format!(
        "FROM golang\nENV GOPROXY=http://{} GONOSUMDB=* GOFLAGS=-mod=mod\nWORKDIR /app\nCOPY go.mod .\n\
         RUN go mod download\nCOPY . .\nRUN go build -trimpath -o /out/app && go mod verify\n",
        server.address()
    );
    sandbox.write("cases/it", text);
    let here = contexts("");
    let build = |isolation: &str, sandbox: &Sandbox| {
        let output = format!("oci:out-{isolation}");
        let asked = format!("--sandbox={isolation}");
        let mut arguments = arguments("cases/it", &output, &here);
        arguments.extend([asked.as_str(), "ctx"]);
        sandbox.gondola(&arguments).success();
        layers(&sandbox.path(&format!("out-{isolation}")))
    };
    let without = build("toolchain", &sandbox);
    assert!(without.iter().any(|layer| layer.contains("app/go.sum 0 644 0:0")), "{without:#?}");
    assert!(without.iter().all(|layer| !layer.contains("go/pkg/mod")), "{without:#?}");
    // Of a store that knows nothing of it.
    let other = sandbox.path("other-store");
    sandbox.set("GONDOLA_HOME", other.to_str().unwrap());
    assert_eq!(build("ns", &sandbox), without);
}
