"""Where the users of a provider reset a password: what is known of the provider, and what the tenant says instead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pydantic import model_validator

from broker.sdk import ConnectionSettings, ResetHow, ResetPage, ResetSettings, extend, wrong

_WITH_ADDRESS = frozenset({ResetHow.DEEP_LINK, ResetHow.OIDC_FORGOT})


@dataclass(frozen=True, slots=True)
class ResetFacts:
    """What is publicly known of one provider."""

    how: ResetHow = ResetHow.AUTHORIZE_HINT
    """Where nothing is known: an ordinary sign-in there, whose page has a "Forgot password?" of its own."""
    url: str | None = None
    """Its reset page; for `oidc_forgot` the address that takes an authorization request and comes back."""
    hint_parameter: str | None = None
    """The parameter of `url` that takes an identifier. Only what the provider itself uses or documents."""
    text: str | None = None
    change_only: bool = False
    """`url` is for people who are still signed in there."""
    provider: str | None = None
    """The name that people know. None: the title of the connection."""

    def overlaid(self, settings: ResetSettings | None) -> ResetFacts:
        """With what a tenant says in the place of what is known."""
        if settings is None:
            return self
        known = self
        how = settings.how
        if how is None:
            how = ResetHow.DEEP_LINK if settings.url and self.how not in _WITH_ADDRESS else self.how
        if how is not self.how or settings.url is not None:
            # What is known of one address is not known of another.
            known = ResetFacts(how, settings.url, provider=self.provider)
        return ResetFacts(
            how=how,
            url=known.url,
            hint_parameter=settings.hint_parameter or known.hint_parameter,
            text=settings.text or known.text,
            change_only=known.change_only if settings.change_only is None else settings.change_only,
            provider=known.provider,
        )

    def page(self, title: str, hint: str | None) -> ResetPage:
        """The same page for everybody who names the same identifier: nobody is looked up."""
        url = self.url
        if url is not None and hint and self.hint_parameter and self.how is ResetHow.DEEP_LINK:
            url = extend(url, [(self.hint_parameter, hint)])
        return ResetPage(self.how, self.provider or title, url, self.text, change_only=self.change_only)


class UpstreamSettings(ConnectionSettings):
    """Settings of a connection whose passwords live elsewhere."""

    reset_facts: ClassVar[ResetFacts] = ResetFacts()
    """What is known of this type of provider; a preset brings its own."""
    comes_back_from_reset: ClassVar[bool] = False
    """Whether the connection can send an authorization request to a reset page (`oidc_forgot`)."""

    def known_reset(self) -> ResetFacts:
        """What is known. For providers whose addresses depend on their settings (`host`), overridden there."""
        return self.reset_facts

    def effective_reset(self) -> ResetFacts:
        """What is known, with what the tenant says instead."""
        return self.known_reset().overlaid(self.reset)

    @model_validator(mode="after")
    def _reset_can_work(self) -> UpstreamSettings:
        if self.reset is None:
            return self
        if self.reset.how is ResetHow.LOCAL:
            raise wrong("is not possible, passwords of this connection live elsewhere; deep_link, authorize_hint or "
                        "text would be right", key="reset.how")  # fmt: skip
        facts = self.effective_reset()
        if facts.how is ResetHow.OIDC_FORGOT and not self.comes_back_from_reset:
            raise wrong("is for OpenID providers only; deep_link would be right", key="reset.how")
        if facts.how in _WITH_ADDRESS and facts.url is None:
            raise wrong("has no url; reset.url with the address of the provider's reset page would be right",
                        key="reset.how")  # fmt: skip
        if facts.how is ResetHow.TEXT and not facts.text:
            raise wrong("has no text; reset.text that says what people have to do would be right", key="reset.how")
        if facts.hint_parameter and facts.how not in _WITH_ADDRESS:
            raise wrong(f"has no meaning with how: {facts.how}; without it would be right", key="reset.hint_parameter")
        return self
