"""Connections to a server that has certificates: what each `sslmode` takes, and what is said of what it refuses."""

from __future__ import annotations

import datetime
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from superstep.checkpointer import TransactionalSaver
from superstep.runtime.faults import DatabaseUnavailable
from tests.support.pgbouncer import pgbouncer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECRET = "s3cret-of-a-key"
_DAY = datetime.timedelta(days=1)


class Files(NamedTuple):
    """What a client may be told to use."""

    root: Path
    strange_root: Path
    revoked: Path
    nothing_revoked: Path
    cert: Path
    key: Path
    locked_key: Path


class Authority:
    """A certificate authority, the certificate of a server at 127.0.0.1, and the files of a client."""

    def __init__(self, folder: Path, name: str = "127.0.0.1") -> None:
        self.ca = trustme.CA()
        self.server = self.ca.issue_cert(name)
        client = self.ca.issue_cert(common_name="anybody")
        paths = Files(*(folder / name for name in Files._fields))
        self.ca.cert_pem.write_to_path(paths.root)
        trustme.CA().cert_pem.write_to_path(paths.strange_root)
        paths.revoked.write_bytes(self.revocations(self.server))
        paths.nothing_revoked.write_bytes(self.revocations())
        client.cert_chain_pems[0].write_to_path(paths.cert)
        client.private_key_pem.write_to_path(paths.key)
        paths.locked_key.write_bytes(_locked(client.private_key_pem.bytes()))
        paths.key.chmod(0o600)
        paths.locked_key.chmod(0o600)
        self.files = paths

    def revocations(self, *certificates: trustme.LeafCert) -> bytes:
        """A list of revoked certificates."""
        key = serialization.load_pem_private_key(self.ca.private_key_pem.bytes(), None)
        now = datetime.datetime.now(datetime.UTC)
        issuer = x509.load_pem_x509_certificate(self.ca.cert_pem.bytes()).subject
        listed = x509.CertificateRevocationListBuilder().issuer_name(issuer).last_update(now - _DAY)
        listed = listed.next_update(now + _DAY)
        for each in certificates:
            serial = x509.load_pem_x509_certificate(each.cert_chain_pems[0].bytes()).serial_number
            revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now - _DAY).build()
            listed = listed.add_revoked_certificate(revoked)
        return listed.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)  # type: ignore[arg-type]

    @contextmanager
    def serve(
        self, server_url: str, *, mode: str = "require", cert: trustme.LeafCert | None = None, **more: str
    ) -> Iterator[str]:
        """A server that speaks TLS alone, as pgbouncer's `client_tls_sslmode` says: its URL, to be added to."""
        cert = cert or self.server
        tls = {
            "sslmode": mode,
            "ca_file": self.ca.cert_pem.bytes(),
            "cert_file": cert.cert_chain_pems[0].bytes(),
            "key_file": cert.private_key_pem.bytes(),
            **more,
        }
        with pgbouncer(server_url, mode="session", tls=tls) as url:
            yield url


def _locked(pem: bytes) -> bytes:
    return serialization.load_pem_private_key(pem, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(SECRET.encode()),
    )


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """One whose server is at 127.0.0.1."""
    return Authority(tmp_path)


async def _works(url: str, **parameters: object) -> None:
    async with TransactionalSaver.from_conn_string(_with(url, parameters)) as saver:
        await saver.setup()


async def _refused(url: str, **parameters: object) -> str:
    with pytest.raises(DatabaseUnavailable) as caught:
        await _works(url, **parameters)
    assert SECRET not in str(caught.value)
    assert "malformed" not in str(caught.value)
    return str(caught.value)


def _with(url: str, parameters: dict[str, object]) -> str:
    return f"{url}?{'&'.join(f'{name}={value}' for name, value in parameters.items())}"


class TestServer:
    """Whom the client believes to be the server."""

    async def test_every_mode_but_disable_encrypts(self, database_url: str, authority: Authority) -> None:
        root = authority.files.root
        with authority.serve(database_url) as url:
            await _works(url, sslmode="prefer")
            await _works(url, sslmode="allow")
            await _works(url, sslmode="require")
            await _works(url, sslmode="verify-ca", sslrootcert=root)
            await _works(url, sslmode="verify-full", sslrootcert=root)
            assert "sslmode" in await _refused(url, sslmode="disable")

    async def test_an_authority_that_is_not_trusted(self, database_url: str, authority: Authority) -> None:
        strange = authority.files.strange_root
        with authority.serve(database_url) as url:
            for mode in ("verify-ca", "verify-full"):
                text = await _refused(url, sslmode=mode, sslrootcert=strange)
                assert "certificate" in text
                assert "sslrootcert" in text

    async def test_a_certificate_for_another_host(self, database_url: str, tmp_path: Path) -> None:
        elsewhere = Authority(tmp_path, "elsewhere.example")
        with elsewhere.serve(database_url) as url:
            await _works(url, sslmode="verify-ca", sslrootcert=elsewhere.files.root)
            text = await _refused(url, sslmode="verify-full", sslrootcert=elsewhere.files.root)
            assert "127.0.0.1" in text

    async def test_a_certificate_whose_time_is_over(self, database_url: str, authority: Authority) -> None:
        old = authority.ca.issue_cert("127.0.0.1", not_after=datetime.datetime.now(datetime.UTC) - _DAY)
        with authority.serve(database_url, cert=old) as url:
            assert "expired" in await _refused(url, sslmode="verify-ca", sslrootcert=authority.files.root)

    async def test_a_certificate_that_was_revoked(
        self, database_url: str, authority: Authority, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        files = authority.files
        with authority.serve(database_url) as url:
            monkeypatch.setenv("SSL_CERT_FILE", str(files.root))
            for root in (files.root, "system"):
                told = {"sslmode": "verify-full", "sslrootcert": root}
                await _works(url, **told, sslcrl=files.nothing_revoked)
                assert "revoked" in await _refused(url, **told, sslcrl=files.revoked)

    async def test_the_certificates_of_the_system(
        self, database_url: str, authority: Authority, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with authority.serve(database_url) as url:
            assert "certificate" in await _refused(url, sslrootcert="system")
            monkeypatch.setenv("SSL_CERT_FILE", str(authority.files.root))  # OpenSSL's word for where they are
            await _works(url, sslrootcert="system")

    async def test_a_version_of_the_protocol_that_the_server_has_not(
        self, database_url: str, authority: Authority, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        root = authority.files.root
        monkeypatch.setenv("SSL_CERT_FILE", str(root))
        for more in ({"sslmode": "verify-full", "sslrootcert": root}, {"sslrootcert": "system"}):
            with authority.serve(database_url, protocols="tlsv1.3") as url:
                await _works(url, ssl_min_protocol_version="TLSv1.3", **more)
                text = await _refused(url, ssl_max_protocol_version="TLSv1.2", **more)
                assert "encrypted connection failed" in text

    async def test_a_server_without_encryption(self, database_url: str) -> None:
        with pgbouncer(database_url, mode="session") as url:
            await _works(url, sslmode="prefer")
            assert "sslmode" in await _refused(url, sslmode="require")


class TestClient:
    """A client that has to show a certificate."""

    async def test_it_is_shown(self, database_url: str, authority: Authority) -> None:
        files = authority.files
        with authority.serve(database_url, mode="verify-full") as url:
            await _works(url, sslmode="require", sslcert=files.cert, sslkey=files.key)
            await _works(url, sslmode="verify-full", sslrootcert=files.root, sslcert=files.cert, sslkey=files.key)

    async def test_its_key_is_locked(self, database_url: str, authority: Authority) -> None:
        files = authority.files
        locked = {"sslmode": "require", "sslcert": files.cert, "sslkey": files.locked_key}
        with authority.serve(database_url, mode="verify-full") as url:
            await _works(url, **locked, sslpassword=SECRET)
            for more in ({"sslpassword": f"not-{SECRET}"}, {}, {"sslrootcert": "system", "sslmode": "verify-full"}):
                assert "sslpassword" in await _refused(url, **{**locked, **more})

    async def test_it_has_none(self, database_url: str, authority: Authority) -> None:
        with authority.serve(database_url, mode="verify-full") as url:
            await _refused(url, sslmode="require")

    async def test_files_that_are_no_certificates(
        self, database_url: str, authority: Authority, tmp_path: Path
    ) -> None:
        nonsense = tmp_path / "nonsense"
        nonsense.write_text(f"no certificate, {SECRET}")
        files = authority.files
        with authority.serve(database_url) as url:
            assert "sslrootcert" in await _refused(url, sslmode="verify-ca", sslrootcert=nonsense)
            assert "sslcert" in await _refused(url, sslmode="require", sslcert=nonsense, sslkey=files.key)
            assert "sslkey" in await _refused(url, sslmode="require", sslcert=files.cert, sslkey=nonsense)
            assert "sslcrl" in await _refused(url, sslmode="verify-ca", sslrootcert=files.root, sslcrl=nonsense)
