"""A kernel's own build folder: a hard-linked copy of the warmed one, and the environment in which evcxr compiles there."""

import fcntl
import json
import os
import shutil
import sys
import time

from wire import remove_sockets

HERE = os.path.dirname(os.path.abspath(__file__))
CONNECTION = "connection.json"  # where in a session's folder it says by which sockets evcxr listens
# A standard library without anything in it, and what tells cargo.sh of it.
UNSEEN = os.path.join(HERE, "unseen")
RESTORED = []  # the locks of folders that were put back, as long as this process runs


def choose_project():
    """The set-up project that the notebook lies in, or else the one that was set up last."""
    if "TSAE_PROJECT" in os.environ:
        with open(os.environ["TSAE_PROJECT"], encoding="utf-8") as file:
            return json.load(file)
    folder = os.path.join(HERE, "projects")
    projects = []
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if name.endswith(".json"):
            with open(path, encoding="utf-8") as file:
                project = json.load(file)
            if os.path.isdir(project["template"]):
                projects.append((os.path.getmtime(path), project))
    if not projects:
        sys.exit(f"nothing is set up in {HERE}: run `tsae lab` once")
    here = os.path.realpath(os.getcwd())
    inside = [p for p in projects if (here + os.sep).startswith(p[1]["project"] + os.sep)]
    project = max(inside or projects, key=lambda p: p[0])[1]
    if not os.path.exists(project["compiler"]):
        sys.exit(f"{project['compiler']}, by which the library was compiled, is gone: run `tsae lab`, which uses the installed Rust")
    return project


def changed_since(template, project):
    """Whether a source file of the library, or the compiler, is newer than the compiled copy."""
    return edited_since(os.stat(os.path.join(template, ".ready")).st_mtime_ns, project)


def edited_since(then, project):
    """Whether a source file of the library, or the compiler, was written after that time, in nanoseconds, or is gone."""
    try:
        return any(os.stat(path).st_mtime_ns > then for path in [project["compiler"], *project["sources"]])
    except OSError:
        return True


def copy_tree(source, target):
    """Copies `source` to `target`: hard links for compiled crates, which cargo replaces; real copies for all that is written in place,
    above all the cells' own source, or two kernels would compile each other's cells."""
    for folder, folders, files in os.walk(source):
        here = os.path.join(target, os.path.relpath(folder, source))
        os.makedirs(here, exist_ok=True)
        compiled = os.path.relpath(folder, source).split(os.sep)[0] == "target"
        private = not compiled or ".fingerprint" in folder or "incremental" in folder
        for name in files:
            if name in (".ready", ".cargo-lock", "session.lock") or name.endswith(".used"):
                continue
            if private or "ctx" in name or name.endswith((".json", ".d")):
                shutil.copy2(os.path.join(folder, name), os.path.join(here, name))
            else:
                try:
                    os.link(os.path.join(folder, name), os.path.join(here, name))
                except OSError:
                    shutil.copy2(os.path.join(folder, name), os.path.join(here, name))


def remove_dead_sessions(folder):
    """Removes the folders of kernels that were killed: theirs are the locks that nobody holds, or that are gone already."""
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        try:
            with open(os.path.join(path, "session.lock"), "r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove_sockets(os.path.join(path, CONNECTION))
                shutil.rmtree(path, ignore_errors=True)
        except FileNotFoundError:
            shutil.rmtree(path, ignore_errors=True)
        except OSError:
            pass  # in use


def make_locked(folder):
    """Makes a session's folder, and the open lock that marks it as alive; at once, as others see it, who remove those that nobody holds."""
    sessions = os.path.dirname(folder)
    os.makedirs(sessions, exist_ok=True)
    with open(sessions + ".lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        remove_dead_sessions(sessions)
        os.makedirs(folder, exist_ok=True)
        return locked(folder)


def shared_lock():
    """Held while a warmed folder is copied, so that no set-up removes it meanwhile."""
    lock = open(os.path.join(HERE, "templates.lock"), "a")
    fcntl.flock(lock, fcntl.LOCK_SH)
    return lock


def locked(folder):
    """The open lock that marks a folder as in use."""
    lock = open(os.path.join(folder, "session.lock"), "a")
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def make_session(project, is_fresh):
    """A private copy of the warmed folder, and the open lock that marks it as alive."""
    folder = os.path.join(HERE, "sessions", f"{int(time.time())}-{os.getpid()}")
    lock = make_locked(folder)
    copy_tree(project["template"], folder)
    if not is_fresh:
        forget_cells(folder)
    return folder, lock


def forget_cells(folder):
    """Has cargo look at the library again, which has changed."""
    shutil.rmtree(os.path.join(folder, "cells"), ignore_errors=True)


def show(project, folder, types):
    """Sets what rust-analyzer finds when it next loads the cells' crate: with `types` the standard library and the crates whose types cells
    meet, and otherwise nothing, which takes no time."""
    os.makedirs(os.path.join(UNSEEN, "core", "unseen"), exist_ok=True)
    link = os.path.join(folder, "std")
    os.symlink(project["std"] if types else UNSEEN, link + ".new")
    os.replace(link + ".new", link)


def restored(project, folder):
    """Puts a session's folder back where somebody has deleted it, with the cache folder, say. Why it cannot be, or None."""
    if os.path.exists(os.path.join(folder, "session.lock")):
        return None
    try:
        with shared_lock():
            lock = make_locked(folder)
            copy_tree(project["template"], folder)
            forget_cells(folder)
            show(project, folder, True)
        if os.path.isdir(os.path.join(folder, "target")):
            RESTORED.append(lock)
            return None
    except OSError:
        pass
    shutil.rmtree(folder, ignore_errors=True)
    return (
        f"The folder in which this notebook's cells are compiled, {folder}, was deleted, and with it what it is made from. "
        "Run `tsae lab --check` to see what is missing, `tsae lab` to make it, and restart the kernel."
    )


def environment(project, folder, preload, is_live, types):
    """The environment of evcxr: the user's, less what would change how the library is compiled. For `types` see `show`."""
    kept = ("CARGO_HOME", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTRIES_", "CARGO_REGISTRY_", "CARGO_SOURCE_")
    env = {}
    for name, value in os.environ.items():
        if name.startswith("CARGO") and not name.startswith(kept):
            continue
        if name.startswith(("RUSTC", "RUSTFLAGS", "RUSTDOCFLAGS")) or name == "EVCXR_IS_RUNTIME":
            continue
        env[name] = value
    config = os.path.join(folder, "evcxr-config")
    os.makedirs(config, exist_ok=True)
    with open(os.path.join(config, "init.evcxr"), "w", encoding="utf-8") as file:
        if preload:
            # Written exactly as evcxr writes a cell's `{ path = ".." }`, so that the cell's own :dep line changes nothing.
            file.write(':dep {} = {{ path = "{}" }}\n'.format(project["package"], project["project"]))
    env["EVCXR_TMPDIR"] = folder
    env["EVCXR_CONFIG_DIR"] = config
    env["RUSTUP_TOOLCHAIN"] = project["toolchain"]
    env["PATH"] = os.path.join(project["toolchain"], "bin") + os.pathsep + env.get("PATH", os.defpath)
    env["JUPYTER_PATH"] = folder  # evcxr rewrites the user's own "Rust" kernel if it finds it
    env["RUST_BACKTRACE"] = "0"  # of evcxr itself; cells have one all the same
    env["TSAE_LOCK"] = project["lock"]
    env["TSAE_PYTHON"] = sys.executable
    env["TSAE_METADATA"] = os.path.join(HERE, "metadata.py")
    env["TSAE_KERNEL"] = "1"
    if is_live:
        env["TSAE_LIVE"] = "1"
    else:
        env.pop("TSAE_LIVE", None)
    show(project, folder, types)
    env["RUST_SRC_PATH"] = os.path.join(folder, "std")
    return env
