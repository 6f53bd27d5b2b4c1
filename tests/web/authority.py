"""A certificate authority of the tests' own, and the files that a web configuration names."""

from __future__ import annotations

import datetime
from pathlib import Path

import bcrypt
import trustme

# The least that bcrypt takes: what is tested is not how long it takes to guess.
_BCRYPT_COST = 4


class Authority:
    """An authority that signs servers' and clients' certificates, and keeps everything in a directory."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self._ca = trustme.CA()
        self._directory = directory
        self.certificate = directory / f"{name}.pem"
        self._ca.cert_pem.write_to_path(str(self.certificate))

    def issue(self, name: str, *identities: str, days: int = 30) -> tuple[Path, Path]:
        """Issue a certificate for these names or addresses; return its file and its key's.

        :param days: how long it is valid; negative for one that has expired
        """
        expires = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)
        issued = self._ca.issue_cert(*identities, not_after=expires)
        certificate, key = self._directory / f"{name}.crt", self._directory / f"{name}.key"
        certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        key.write_bytes(issued.private_key_pem.bytes())
        return certificate, key


def hash_password(password: str) -> str:
    """Return the password's bcrypt hash, as `htpasswd -nB` writes it."""
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(_BCRYPT_COST)).decode()
