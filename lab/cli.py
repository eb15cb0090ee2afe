"""``python -m lab``: up, down, status, env, logs, clock, fault, consistency, quotas, reset, build."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
import typing as t
from collections.abc import Callable
from pathlib import Path

import requests
import yaml

from lab import audit, binaries, supervisor
from lab.aws import requestlog
from lab.kubernetes import kubeconfig
from lab.kubernetes.client import Access, ApiError, Kube
from lab.state import DAEMON, Json, Lock, State, StateError, default_root

START_SECONDS = 60.0
STOP_SECONDS = 60.0
DEFAULT_FACTOR = 60.0
LOG_TAIL = 3000


class CommandFailed(RuntimeError):
    """What to print before ending with status 1."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    command: Callable[[State, argparse.Namespace], None] = options.command
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # otherwise what `up` started would not be stopped
    try:
        command(State(options.state), options)
    except (CommandFailed, StateError, binaries.BinaryUnavailable) as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of `logs` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lab", description="The rehearsal lab: simulated AWS, real Kubernetes, on 127.0.0.1.")
    parser.add_argument("--state", type=Path, default=default_root(), help="state directory (GPUOPS_LAB_STATE, default %(default)s)")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[State, argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(command=command)
        return added

    up_parser = add("up", up, "start the lab; says so when it is up already")
    how = up_parser.add_mutually_exclusive_group()
    how.add_argument("--detach", action="store_true", help="return once it is ready (default)")
    how.add_argument("--foreground", action="store_true", help="stay, and stop it at the end")
    up_parser.add_argument("--factor", type=float, default=DEFAULT_FACTOR, help="simulated seconds for each real one (default %(default)s)")
    add("down", down, "stop everything and remove the state")
    add("status", status, "clusters, nodes, processes").add_argument("--json", action="store_true")
    add("env", env, "print shell commands that point AWS clients at the lab").add_argument("--kubeconfig", metavar="NAME")
    logs_parser = add("logs", logs, "print a log: aws | audit NAME | PROCESS (as `status` names it)")
    logs_parser.add_argument("what", metavar="aws|audit|PROCESS")
    logs_parser.add_argument("name", nargs="?", help="the cluster, for audit")
    logs_parser.add_argument("--writes", action="store_true", help="only what changes something (aws, audit)")
    clock_parser = add("clock", clock, "show or move the simulated time")
    clock_parser.add_argument("--advance", type=float, metavar="SECONDS")
    clock_parser.add_argument("--factor", type=float)
    fault_parser = add("fault", fault, "inject a fault: JSON as lab/README.md describes it; --clear removes all")
    fault_parser.add_argument("fault", nargs="?", metavar="JSON")
    fault_parser.add_argument("--clear", action="store_true")
    stale_parser = add("consistency", consistency, "show or set how long what was just made is not seen everywhere")
    stale_parser.add_argument("seconds", nargs="?", type=float, help="simulated seconds; 0 turns it off")
    stale_parser.add_argument("--kinds", metavar="KIND,KIND", help="only these, such as vpc,iam_role")
    stale_parser.add_argument("--references", action="store_true", help="calls that use what was just made fail too")
    quotas_parser = add("quotas", quotas, 'show or set applied quotas: JSON, such as {"L-DB2E81BA": 0}')
    quotas_parser.add_argument("quotas", nargs="?", metavar="JSON")
    add("reset", reset, "empty the simulated account, its clusters included")
    add("build", build, "build or find the lab's programs")
    return parser


def up(state: State, options: argparse.Namespace) -> None:
    """Start the daemon and wait until it is ready."""
    begin = time.monotonic()
    build(state, options)
    state.create()
    lock = Lock(state)
    said: list[str] = []

    def wait_for_other() -> None:
        if not said:
            said.append("waiting for another `up` or `down` of this lab")
            if state.read_about() is None:
                print(said[0], flush=True)

    while not lock.try_take():
        if (about := _answering(state)) is not None:
            print(f"the lab is up already: {about['endpoint']}, process {about['pid']}, state in {state.root}")
            return
        wait_for_other()
        if time.monotonic() - begin > START_SECONDS:
            raise CommandFailed(f"{state.root} is held by another process that is no running lab: `python -m lab down` first.")
        time.sleep(0.2)
        state.create()  # a `down` may have removed it
    try:
        _sweep(state)
        state.clear()  # what a killed lab left
        _start(state, lock, options.factor, begin)
    except (KeyboardInterrupt, SystemExit):  # told to stop: nothing is left; after a failure the logs are
        state.remove()
        raise
    finally:
        lock.release()
    if options.foreground:
        _stay(state)


def _start(state: State, lock: Lock, factor: float, begin: float) -> None:
    """Spawn the daemon and print what it tells; the pipe ends the daemon should this process be killed meanwhile."""
    state.startup_log.write_text("")
    read, write = os.pipe()
    command = [sys.executable, "-m", "lab.server", f"--state={state.root}", f"--factor={factor}", f"--parent={read}"]
    with state.daemon_log.open("ab") as log:
        process = subprocess.Popen(
            command,
            cwd=Path(__file__).resolve().parents[1],
            env=_daemon_environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=(read, lock.descriptor),
            start_new_session=True,
        )
    os.close(read)
    try:
        state.records.add(DAEMON, process.pid)
        _follow(state, process)
        os.write(write, b"1")
    except BaseException:
        process.terminate()
        process.wait(STOP_SECONDS)
        raise
    finally:
        os.close(write)
    about = state.read_about() or {}
    print(f"the lab is up after {time.monotonic() - begin:.1f} s: {about['endpoint']}, account {about['account']}, state in {state.root}")
    print('next: eval "$(python -m lab env)"')


def _follow(state: State, process: subprocess.Popen[bytes]) -> None:
    """Print the daemon's progress until lab.json is there."""
    end, shown = time.monotonic() + START_SECONDS, 0
    while True:
        ready = state.about.exists()
        lines = state.startup_log.read_text().splitlines()
        for line in lines[shown:]:
            print(f"started {line}", flush=True)
        shown = len(lines)
        if ready:
            return
        if process.poll() is not None:
            raise CommandFailed(f"the lab ended with status {process.returncode}; end of {state.daemon_log}:\n{_tail(state.daemon_log)}")
        if time.monotonic() > end:
            raise CommandFailed(f"the lab was not ready after {START_SECONDS:.0f} s; see {state.daemon_log}")
        time.sleep(0.05)


def _daemon_environment() -> dict[str, str]:
    """This environment without any AWS setting: what the daemon does must not depend on who starts it."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    return kept | {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull, "AWS_EC2_METADATA_DISABLED": "true"}


def _stay(state: State) -> None:
    """Stay until the daemon ends or this process is told to."""
    try:
        while state.daemon() is not None:
            time.sleep(0.5)
    finally:
        _stop(state)


def down(state: State, _options: argparse.Namespace) -> None:
    """Stop all and remove the state, also what a killed `up` or daemon left."""
    if not state.exists:
        print(f"no lab in {state.root}")
        return
    _stop(state)
    print(f"the lab is down, {state.root} is clean")


def _stop(state: State) -> None:
    _sweep(state)
    lock = Lock(state)
    # A daemon that `up` had no time to record holds the lock and records itself within moments.
    if state.exists and not lock.take(STOP_SECONDS, lambda: _sweep(state)):
        raise CommandFailed(f"{state.root} is still held by a process that is not recorded there.")
    _sweep(state)
    state.remove()
    lock.release()


def _sweep(state: State) -> None:
    """End the daemon, which ends its children in order, then what is left of them."""
    daemon = state.daemon()
    if daemon is not None:
        supervisor.end([daemon], STOP_SECONDS)
    supervisor.end(state.records.alive())


def status(state: State, options: argparse.Namespace) -> None:
    """Print what runs."""
    found = _status(state)
    if options.json:
        print(json.dumps(found, indent=2))
        return
    print(f"AWS        {found['endpoint']}  account {found['account']}  region {found['region']}")
    print(f"clock      {json.dumps(found['aws'].get('clock'))}")
    for cluster in found["clusters"]:
        nodes = cluster["error"] or f"{len(cluster['nodes'])} nodes"
        print(f"cluster    {cluster['name']}  {cluster['endpoint']}  {nodes}")
        for node in cluster["nodes"]:
            gpus = "  ".join(f"{k}: {v}" for k, v in node["gpus"].items()) or "no GPU advertised"
            print(f"  node     {node['name']}  {node['instance_type']}  {'Ready' if node['ready'] else 'NotReady'}  {gpus}")
    for process in found["processes"]:
        print(f"process    {process['name']:<60} pid {process['pid']:<8} {process['rss_mib']:6.0f} MiB")
    print(f"memory     {sum(p['rss_mib'] for p in found['processes']):.0f} MiB")


def _status(state: State) -> Json:
    about = _require(state)
    processes = [{"name": r.name, "pid": r.pid, "rss_mib": round(supervisor.resident_mib(r.pid) or 0.0, 1)} for r in state.records.alive()]
    clusters = [c | _nodes(Path(c["directory"]), c["endpoint"]) for c in state.cluster_files()]
    shown = {k: about[k] for k in ("endpoint", "region", "account", "state_dir")}
    return {**shown, "aws": _control(state, "GET", "status"), "clusters": clusters, "processes": processes}


def _nodes(directory: Path, url: str) -> Json:
    """``nodes`` of a cluster, and ``error``: empty, or why its API server does not answer (it may be going)."""
    certificates = directory / "pki"
    kube = Kube(Access(url, certificates / "ca.crt", certificates / "loops.crt", certificates / "loops.key"))
    try:
        found = kube.call("GET", "/api/v1/nodes")["items"]
    except (ApiError, requests.RequestException) as error:
        return {"nodes": [], "error": f"does not answer: {error}"}
    nodes = [
        {
            "name": n["metadata"]["name"],
            "instance_type": n["metadata"]["labels"].get("node.kubernetes.io/instance-type", "?"),
            "ready": any(c["type"] == "Ready" and c["status"] == "True" for c in n["status"].get("conditions") or ()),
            "gpus": {k: v for k, v in (n["status"].get("allocatable") or {}).items() if k.startswith("nvidia.com/")},
        }
        for n in found
    ]
    return {"nodes": nodes, "error": ""}


def env(state: State, options: argparse.Namespace) -> None:
    """Print export lines; with --kubeconfig also an administrator's kubeconfig and kubectl."""
    about = _require(state)
    variables = {
        "AWS_ENDPOINT_URL": about["endpoint"],
        "AWS_ACCESS_KEY_ID": about["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": about["secret_access_key"],
        "AWS_REGION": about["region"],
        "AWS_DEFAULT_REGION": about["region"],
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "GPUOPS_LAB_STATE": str(state.root),
    }
    if options.kubeconfig:
        variables["KUBECONFIG"] = str(_write_kubeconfig(state, options.kubeconfig))
    print("unset AWS_PROFILE AWS_DEFAULT_PROFILE AWS_SESSION_TOKEN")
    for name, value in variables.items():
        print(f"export {name}={shlex.quote(value)}")
    if options.kubeconfig:
        directory = binaries.kubectl(lambda text: print(text, file=sys.stderr)).parent
        print(f'export PATH={shlex.quote(str(directory))}:"$PATH"')


def _write_kubeconfig(state: State, name: str) -> Path:
    cluster = _cluster(state, name)
    path = state.kubeconfigs / f"{Path(cluster['directory']).name}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(kubeconfig.for_client(name, cluster["endpoint"], Path(cluster["directory"]) / "pki", "admin")))
    return path


def logs(state: State, options: argparse.Namespace) -> None:
    """Print a log. Logs can be read after the lab has been killed too, until `down` removes them."""
    if options.what == "aws":
        entries = requestlog.read(state.request_log)
        _print_lines(requestlog.writes(entries) if options.writes else entries)
    elif options.what == "audit":
        if not options.name:
            raise CommandFailed("which cluster? `python -m lab logs audit NAME`")
        path = next(iter(sorted(state.audit.glob(f"*-{options.name}.log"))), None)
        if path is None:
            raise CommandFailed(f"there is no audit log of a cluster {options.name}.")
        events = audit.read(path)
        _print_lines(audit.writes(events) if options.writes else events)
    else:
        print(_process_log(state, options.what).read_text(errors="replace"), end="")


def _print_lines(entries: t.Iterable[object]) -> None:
    for entry in entries:
        slots: tuple[str, ...] = getattr(type(entry), "__slots__", ())
        print(json.dumps({name: getattr(entry, name) for name in slots}))


def _process_log(state: State, name: str) -> Path:
    found = [state.daemon_log] if name == DAEMON else sorted(state.clusters.glob(f"*/{name.rpartition('/')[2]}.log"))
    if "/" in name:
        found = [p for p in found if f"{p.parent.name}/{p.stem}" == name]
    if not found or not found[0].exists():
        known = [DAEMON, *(f"{p.parent.name}/{p.stem}" for p in sorted(state.clusters.glob("*/*.log")))]
        raise CommandFailed(f"there is no log {name!r}; there are aws, audit NAME, {', '.join(known)}.")
    if len(found) > 1:
        raise CommandFailed(f"several clusters have {name}: {', '.join(f'{p.parent.name}/{p.stem}' for p in found)}")
    return found[0]


def clock(state: State, options: argparse.Namespace) -> None:
    """Show the clock, or move it."""
    change = {k: v for k, v in (("advance", options.advance), ("factor", options.factor)) if v is not None}
    print(json.dumps(_control(state, "POST", "clock", change) if change else _control(state, "GET", "status").get("clock")))


def fault(state: State, options: argparse.Namespace) -> None:
    """Inject a fault or clear all."""
    if options.clear == bool(options.fault):
        raise CommandFailed("give a fault as JSON, or --clear")
    if options.clear:
        print(json.dumps(_control(state, "DELETE", "faults")))
        return
    print(json.dumps(_control(state, "POST", "fault", _parsed(options.fault))))


def _parsed(text: str) -> Json:
    try:
        return t.cast(Json, json.loads(text))
    except ValueError as error:
        raise CommandFailed(f"that is not JSON: {error}") from error


def consistency(state: State, options: argparse.Namespace) -> None:
    """Show the setting, or change it."""
    if options.seconds is None:
        print(json.dumps(_control(state, "GET", "consistency")))
        return
    kinds = {"kinds": options.kinds.split(",")} if options.kinds else {}
    print(json.dumps(_control(state, "POST", "consistency", {"seconds": options.seconds, "references": options.references, **kinds})))


def quotas(state: State, options: argparse.Namespace) -> None:
    """Show the applied quotas, or set some."""
    how: tuple[str, Json | None] = ("POST", _parsed(options.quotas)) if options.quotas else ("GET", None)
    print(json.dumps(_control(state, how[0], "quotas", how[1])))


def reset(state: State, _options: argparse.Namespace) -> None:
    """Empty the simulated account."""
    print(json.dumps(_control(state, "POST", "reset")))


def build(_state: State, _options: argparse.Namespace) -> None:
    """Have all programs and charts ready: those of control planes, Karpenter, Helm."""

    def say(text: str) -> None:
        print(text, flush=True)

    binaries.control_plane(say)
    binaries.karpenter(say)
    binaries.charts(say)
    binaries.helm(say)


def _cluster(state: State, name: str) -> Json:
    found = [c for c in state.cluster_files() if c["name"] == name]
    if not found:
        known = ", ".join(c["name"] for c in state.cluster_files()) or "none"
        raise CommandFailed(f"there is no ready cluster {name}; there is: {known}.")
    return found[0]


def _require(state: State) -> Json:
    about = _answering(state)
    if about is None:
        raise CommandFailed(f"no lab is running in {state.root}: `python -m lab up` starts it.")
    return about


def _answering(state: State) -> Json | None:
    """lab.json of a lab whose daemon runs, None otherwise."""
    about = state.read_about()
    daemon = state.daemon()
    return about if about is not None and daemon is not None and daemon.pid == about["pid"] else None


def _control(state: State, method: str, path: str, body: Json | None = None) -> Json:
    """The AWS server's control endpoint."""
    with requests.Session() as session:
        session.trust_env = False
        try:
            answer = session.request(method, f"{_require(state)['endpoint']}/_lab/{path}", json=body, timeout=60)
        except requests.RequestException as error:
            raise CommandFailed(f"the lab does not answer: {error}") from error
    if not answer.ok:
        raise CommandFailed(f"the lab refused: {answer.text[:500]}")
    return t.cast(Json, answer.json()) if answer.content else {}


def _tail(path: Path) -> str:
    return path.read_text(errors="replace")[-LOG_TAIL:]
