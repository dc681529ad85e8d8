"""What PostgreSQL stores of a password, against values that PostgreSQL itself has stored."""

from __future__ import annotations

import pytest

from compreface_cli.facts import passwords

# `select rolpassword from pg_authid` of PostgreSQL 15, after `create user me password 'secret'`
# with password_encryption = scram-sha-256 and md5.
SCRAM = (
    "SCRAM-SHA-256$4096:VmAg8MCAW6l48ovFySATMA==$"
    "xo7+2AyzM6EWi//uF9maniwP9n1Yrat2KAT+2kbwLC8=:UFzuALNR7o91xr94NfidxchuR6iE/UJnSzn0Ta9zdpo="
)
MD5 = "md5ae557034da7821f8788e6ba4bd9926f3"


@pytest.mark.parametrize("value", [SCRAM, MD5])
def test_a_stored_value_fits_its_password_only(value: str) -> None:
    assert passwords.fits("secret", value, user="me")
    assert not passwords.fits("Secret", value, user="me")


def test_the_user_is_part_of_the_older_form() -> None:
    assert not passwords.fits("secret", MD5, user="you")


@pytest.mark.parametrize("value", ["", "secret", "SCRAM-SHA-256$x", "md5"])
def test_nothing_fits_another_value(value: str) -> None:
    assert not passwords.fits("secret", value, user="me")


def test_a_new_value_has_a_salt_of_its_own_and_does_not_show_the_password() -> None:
    one, other = passwords.stored("secret-12"), passwords.stored("secret-12")
    assert one != other
    assert passwords.fits("secret-12", one, user="me")
    assert "secret" not in one
