"""The bodies of OpenAI's API, as far as Corral takes and gives them."""
