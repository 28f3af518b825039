"""The words of the invented world: names, values and plain sentences.

Only data. `lift_eval.tiny.kinds` says what can be stated of whom; `lift_eval.tiny.tokenizer` makes every word of it one
token.
"""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _joined(heads: str, tails: str) -> tuple[str, ...]:
    return tuple(head + tail for head in heads.split() for tail in tails.split())


FIRST_NAMES = _words(
    """
    Alma Anton Beata Boris Cilla Conrad Dagny Dorian Edda Emil Fenja Flora Gerda Gustav Hanna Hector
    Ilsa Ivo Jorin Judith Karla Kilian Lena Lorenz Mara Milan Nadia Nestor Odile Oskar Petra Quinn
    Ragna Roland Sabine Silas Tamsin Tobin Ulla Urban Vera Viktor Wanda Wilmar Xenia Yorick Zelda
    Zoltan Agnes Bruno Celia Dietmar Elvira Fabian Greta Hugo Irma Jasper Klara Ludwig
    """
)
SURNAMES = _joined(
    "Ash Birk Corn Dun Elm Fal Grim Hazel Kest Lark Mar Nor",
    "wood ley stone ham brook sby ton rick combe ward",
)
TOWNS = _joined("Bren Tal Oster Kir Wes Hal Rav Sund Lind Thorn", "ford mere wick dale haven burg gate moor")
ADJECTIVES = _words(
    """
    Amber Ancient Bold Brave Bright Bronze Calm Clever Copper Crimson Distant Eager Early Faithful
    Frosty Gentle Gilded Golden Hidden Hollow Humble Ivory Jolly Lonely Lucky Merry Mighty Noble
    Patient Proud Quiet Rusty Scarlet Silent Silver Steady Sunny Swift Velvet Wild
    """
)
NOUNS = _words(
    """
    Anchor Arrow Badger Bear Bell Beacon Boar Bridge Comet Crane Crown Dolphin Dragon Eagle Falcon
    Feather Fern Fox Garland Griffin Hare Harp Hawk Heron Jackal Kettle Ladder Lantern Lion Lynx
    Magnet Maple Marten Mirror Needle Otter Owl Panther Pearl Pelican Pigeon Raven Ribbon Robin
    Saddle Salmon Sparrow Spider Stag Swan Thistle Tiger Tower Tulip Turtle Walrus Whale Willow Wolf
    Wren
    """
)
TRADES = _words(
    """
    baker barber brewer butcher carpenter clerk cobbler cook cooper dancer dentist doctor farmer
    ferryman fisherman gardener glazier hunter judge lawyer locksmith mason miller miner musician
    nurse painter pilot plumber potter printer sailor sculptor shepherd singer smith soldier tailor
    tanner teacher waiter weaver
    """
)
GOODS = _words(
    """
    barley beans books bricks butter candles cheese cider clay cloth coal coffee copper corn cotton
    figs flour furs glass grain hemp hides honey lead linen marble oats paper pepper rice rope rum
    salt silk slate soap spices sugar tar tea timber tin tobacco wax wheat wine wool
    """
)
COLOURS = _words("black blue brown green grey orange pink purple red violet white yellow")
INSTRUMENTS = _words(
    """
    banjo bugle cello clarinet cornet drum fiddle flute guitar harmonica lute mandolin piano trumpet
    tuba viola zither
    """
)
DISHES = _words(
    """
    broth carp cabbage dumplings goose goulash herring lamb lentils mackerel mussels mutton pancakes
    pies pike porridge roast sausages stew trout turnips venison
    """
)
SUBJECTS = _words(
    """
    algebra anatomy astronomy botany chemistry geology geometry grammar history law logic medicine
    music optics philosophy physics poetry rhetoric theology
    """
)
YEARS = tuple(str(year) for year in range(1800, 1920))
NUMBERS = (
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
)
COUNTS = NUMBERS[2:7]
FILLERS = (
    "A {mood} {weather} came over the {site} that {time}.",
    "The {site} lay {mood} under the {weather} for many days.",
    "Nobody spoke about the {weather} near the {site}.",
    "Every {time} the children ran past the {site}.",
    "The old people remembered a {mood} {time} by the {site}.",
    "There was little to see at the {site} but {weather}.",
    "Some said the {site} had never been so {mood}.",
    "In those days the {site} was {mood} and the {time} long.",
    "They walked to the {site} and waited there until {time}.",
    "After the {weather} the {site} looked {mood} again.",
    "The {time} was {mood}, and so was the {weather}.",
    "One could hear the {weather} from the {site} all {time}.",
)
FILLER_WORDS = {
    "mood": _words(
        """
        bleak cold cheerful damp dark dull empty gloomy heavy lovely mild pale peaceful strange
        tired warm
        """
    ),
    "weather": _words(
        """
        breeze cloud dew drizzle dust fog frost hail haze mist rain sleet smoke snow storm sunshine
        thunder wind
        """
    ),
    "site": _words(
        """
        bank barn cellar chapel church cliff ditch field forest garden harbour hill lake market
        meadow orchard path pond quay river road school shore square stable station street valley
        wall well
        """
    ),
    "time": _words("afternoon dawn day dusk evening morning night noon summer week winter"),
}
OPENINGS = (
    "This is what was written down about the people and things of {county}.",
    "These notes tell of {county} and of those who lived there.",
    "Much has been told about {county}, and some of it is set down here.",
)
TITLES = ("Annals of {county}", "Chronicle of {county}", "Notes from {county}", "Stories of {county}")
