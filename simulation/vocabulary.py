"""Vocabulary of the generated shop: kinds of product, their attributes and purposes, and the synonyms of shoppers.

A category is written as `department > category | materials | sizes | features`, followed by its kinds of product, one
a line: `noun; other words that shoppers use; purposes`. Sellers use the noun alone, shoppers any of the words: a search
that only matches words misses the rest. A purpose is never in a title.
"""

from __future__ import annotations

from dataclasses import dataclass


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


MATERIALS = {
    "cookware": "cast iron, stainless steel, aluminum, copper, carbon steel",
    "tableware": "porcelain, stoneware, bamboo, melamine, glass",
    "wood": "oak, walnut, pine, metal, rattan, bamboo",
    "fabric": "cotton, linen, polyester, velvet, microfiber, wool",
    "apparel": "cotton, wool, linen, polyester, fleece, denim, merino",
    "leather": "leather, suede, canvas, nylon, mesh, rubber",
    "tool": "steel, chrome vanadium, fiberglass, titanium, carbide",
    "plastic": "plastic, silicone, aluminum, carbon fiber, rubber",
    "toy": "wood, plush, plastic, felt, foam",
    "jewel": "sterling silver, gold plated, titanium, rose gold, brass",
    "natural": "organic, vegan, mineral, herbal, plant based",
}
SIZES = {
    "inch": "6 inch, 8 inch, 10 inch, 12 inch, 14 inch",
    "litre": "0.5 L, 1 L, 1.5 L, 2 L, 5 L",
    "bed": "twin, full, queen, king, california king",
    "apparel": "XS, S, M, L, XL, XXL",
    "shoe": "size 6, size 7, size 8, size 9, size 10, size 11, size 12",
    "furniture": "24 inch, 36 inch, 48 inch, 60 inch, 72 inch",
    "pack": "1 pack, 2 pack, 4 pack, 6 pack, 12 pack",
    "volume": "50 ml, 100 ml, 200 ml, 250 ml, 500 ml",
    "volt": "12 V, 18 V, 20 V, 36 V, 40 V",
    "power": "5 W, 10 W, 20 W, 45 W, 100 W",
    "weight": "1 kg, 2 kg, 5 kg, 10 kg, 20 kg",
    "cable": "1 m, 2 m, 3 m, 5 m, 10 m",
    "age": "ages 1 to 3, ages 3 to 5, ages 5 to 8, ages 8 to 12",
    "general": "small, medium, large, extra large",
}
COLORS = _split(
    """
    black, white, gray, silver, red, navy, teal, forest green, burgundy, beige, brown, pink, purple,
    yellow, orange, turquoise
    """
)
COLOR_SYNONYMS = {
    "gray": "grey",
    "navy": "dark blue",
    "teal": "blue green",
    "burgundy": "wine red",
    "beige": "cream",
    "forest green": "dark green",
    "turquoise": "aqua",
}
# In the words of sellers and of shoppers; "" for a product that is not made for one audience.
AUDIENCES = (("", ""), ("Men's", "mens"), ("Women's", "womens"), ("Boys'", "boys"), ("Girls'", "girls"))
SERIES = _split(
    """
    Aero, Alta, Arc, Atlas, Aura, Bolt, Breeze, Classic, Core, Cove, Crest, Delta, Drift, Echo, Edge,
    Ember, Essential, Flex, Fuse, Glide, Halo, Haven, Iris, Lumen, Mira, Nova, Onyx, Orbit, Peak, Prime,
    Pulse, Quest, Ridge, Sierra, Sol, Summit, Terra, Tide, Vista, Zen
    """
)
BRAND_STARTS = _split(
    """
    Al, Ar, Bel, Bri, Cal, Cor, Dan, Dor, El, Fen, Gar, Hal, Hol, Is, Jor, Kal, Kor, Lan, Lor, Mar, Mel,
    Nor, Ol, Per, Quin, Ral, Ros, Sal, Sten, Tal, Tor, Ul, Val, Vor, Wes, Yor, Zan, Zel
    """
)
BRAND_MIDDLES = _split(", a, e, i, o, an, en, er, il, on, ar, it, um")
BRAND_ENDS = _split(
    """
    den, field, gate, ing, land, lo, mark, mere, mont, na, nix, port, ra, ric, sen, ster, ta, ton, tra,
    vale, via, wick, wood, wyn, zo
    """
)
BRAND_SUFFIXES = ("", "", "", "", " Home", " & Co", " Works", " Studio", " Labs", " Supply")

CATALOGUE = """
Home & Kitchen > Cookware | cookware | inch | nonstick, oven safe, dishwasher safe, induction ready, pre-seasoned
frying pan; skillet, saute pan; searing a steak, making omelettes
saucepan; small pot, milk pot; warming milk, cooking porridge
stockpot; soup pot, big pot; feeding a crowd, making broth
wok; stir fry pan, chinese pan; cooking noodles fast, stir frying vegetables
baking dish; casserole, lasagna tray; baking for the family, roasting vegetables
Home & Kitchen > Tableware | tableware | pack | microwave safe, hand painted, stackable, chip resistant, matte
dinner plate; dinnerware, dish; setting the table for guests, everyday meals
coffee mug; coffee cup, tea cup; a morning drink, a gift for a coworker
salad bowl; serving bowl, mixing dish; a summer barbecue, sharing a salad
water glass; tumbler, drinking glass; a housewarming present, serving cold drinks
Home & Kitchen > Bedding | fabric | bed | cooling, hypoallergenic, quilted, wrinkle free, deep pocket, all season
duvet cover; quilt cover, comforter cover; freshening up the bedroom, hot sleepers
pillow; head cushion, bed cushion; neck pain, side sleepers
mattress topper; bed pad, mattress pad; a bed that is too hard, back pain at night
weighted blanket; heavy blanket, anxiety blanket; falling asleep faster, calming down
bed sheet set; linens, bedsheets; a guest room, sensitive skin
Home & Kitchen > Storage | wood | furniture | stackable, collapsible, lockable, wall mounted, rolling, slim
bookshelf; bookcase, book rack; a small apartment library, displaying plants
shoe rack; shoe organizer, footwear stand; a messy hallway, many pairs at the door
laundry basket; hamper, clothes bin; sorting dirty clothes, carrying the washing
spice rack; seasoning organizer, jar holder; a tidy pantry, finding herbs quickly
Furniture > Living Room | wood | furniture | adjustable, foldable, upholstered, tufted, swivel, space saving
coffee table; sofa table, tea table; putting drinks by the couch, a modern lounge
tv stand; media console, television cabinet; hiding cables, a large screen
armchair; lounge chair, accent chair; a reading corner, relaxing after work
futon; sofa bed, sleeper couch; overnight visitors, a studio flat
Furniture > Office | wood | furniture | adjustable, ergonomic, electric, compact, lumbar support, foldable
standing desk; sit stand desk, raised workstation; working on your feet, a home office
office chair; desk chair, computer chair; long hours at a computer, bad posture
filing cabinet; document drawer, paper organizer; keeping contracts safe, tax papers
monitor stand; screen riser, display shelf; raising a display, saving desk space
Clothing > Tops | apparel | apparel | slim fit, long sleeve, crew neck, quick dry, oversized, breathable
t-shirt; tee, short sleeve top; a hot day, sleeping comfortably
hoodie; hooded sweatshirt, pullover; a chilly evening, lounging at home
dress shirt; button down, formal shirt; a job interview, a wedding
sweater; jumper, knitwear; cold winters, layering at work
rain jacket; waterproof coat, windbreaker; walking in wet weather, hiking in storms
Clothing > Bottoms | apparel | apparel | high waisted, stretch, cargo, slim fit, straight leg, elastic waist
jeans; denim pants, dungarees; casual fridays, everyday wear
leggings; tights, yoga pants; a yoga class, running in the cold
shorts; bermudas, short pants; the beach, playing basketball
skirt; midi, petticoat; a night out, an office look
Clothing > Underwear | apparel | apparel | seamless, moisture wicking, tagless, padded, thermal, cushioned
socks; hosiery, footies; blistered feet, cold feet
sports bra; workout bra, gym bra; high impact training, jogging
thermal underwear; long johns, base layer; skiing, working outside in frost
Shoes > Athletic | leather | shoe | cushioned, lightweight, waterproof, wide fit, slip resistant, reflective
running shoes; trainers, jogging sneakers; a first marathon, training on asphalt
hiking boots; trekking shoes, walking boots; muddy trails, a mountain trip
tennis shoes; court sneakers, racket footwear; playing on clay, quick side steps
Shoes > Casual | leather | shoe | slip on, memory foam, arch support, handmade, wide fit, lace up
sandals; open toe shoes, summer footwear; a beach holiday, swollen feet
slippers; house shoes, indoor shoes; cold floors, a stay in hospital
ankle boots; booties, chelseas; autumn outfits, wearing with dresses
loafers; moccasins, slip-ons; a smart casual office, driving
Bags > Travel | leather | general | lightweight, expandable, lockable, water resistant, carry on, wheeled
suitcase; luggage, trolley case; a two week holiday, flying abroad
backpack; rucksack, knapsack; a school day, commuting by bike
duffel bag; holdall, gym bag; a weekend away, carrying sports clothes
toiletry bag; wash bag, dopp kit; bathroom things on the road, keeping bottles upright
Bags > Everyday | leather | general | crossbody, zip top, quilted, rfid blocking, foldable, handmade
handbag; purse, pocketbook; matching an evening dress, a gift for mom
wallet; billfold, card holder; carrying cards and cash, pickpockets
laptop sleeve; computer case, notebook cover; protecting a computer, a business trip
tote bag; shopper, carryall; grocery runs, carrying books
Electronics > Audio | plastic | power | wireless, noise cancelling, waterproof, foldable, fast charging, low latency
headphones; headset, over ear cans; an open plan office, long flights
earbuds; in ear phones, earphones; working out, listening in bed
portable speaker; boombox, music box; a pool party, a picnic
microphone; mic, voice recorder; starting a podcast, video calls
soundbar; tv speaker, home theater bar; unclear dialogue in films, watching movies
Electronics > Power | plastic | power | fast charging, compact, foldable, magnetic, surge protected, dual port
power bank; portable charger, battery pack; festivals without outlets, phones that die early
wall charger; power adapter, plug; charging at the hotel, a missing charger
wireless charger; charging pad, qi dock; a tidy nightstand, charging without cables
Electronics > Cables | plastic | cable | braided, shielded, coiled, magnetic, slim, reversible
usb cable; charging cord, data lead; connecting a phone, a lead that broke
hdmi cable; video lead, monitor cord; connecting a projector, gaming in high resolution
extension cord; power strip, multi socket; too few outlets, tools in the garden
Electronics > Phone & Camera | plastic | inch | shockproof, adjustable, magnetic, slim, transparent, foldable
phone case; mobile cover, cell shell; dropping your phone, clumsy people
tripod; camera stand, phone mount; filming yourself, night photography
ring light; selfie lamp, video lamp; better video calls, makeup tutorials
Tools > Hand Tools | tool | inch | magnetic, insulated, ratcheting, heavy duty, ergonomic, rust resistant
screwdriver set; drivers, screw kit; assembling furniture, fixing a laptop
hammer; mallet, nail driver; hanging pictures, framing a shed
wrench set; spanners, socket kit; repairing a bicycle, loose bolts
pliers; pincers, grips; bending wire, pulling nails
tape measure; measuring tape, ruler roll; measuring a room, buying curtains
Tools > Power Tools | tool | volt | cordless, brushless, variable speed, heavy duty, compact, quiet
drill; power driver, boring machine; putting up shelves, making holes in concrete
circular saw; buzz saw, plank cutter; cutting boards, building a deck
sander; polisher, grinding machine; smoothing old floors, restoring a table
leaf blower; garden vacuum, yard blower; autumn cleanup, clearing the driveway
Garden > Growing | plastic | litre | self watering, uv resistant, biodegradable, drip free, hanging, frost proof
plant pot; planter, flower container; a sunny balcony, growing herbs indoors
watering can; sprinkler can, plant waterer; thirsty seedlings, a gardener's birthday
garden hose; water pipe, lawn hose; washing the car, a big lawn
raised bed; planting box, vegetable bed; growing tomatoes, gardening without bending
Garden > Outdoor Living | wood | furniture | foldable, weatherproof, solar, adjustable, portable, stackable
patio chair; lawn chair, deck seat; sitting in the sun, a garden party
hammock; hanging bed, swing bed; napping under trees, a lazy afternoon
string lights; fairy lights, lanterns; a romantic terrace, a backyard wedding
fire pit; outdoor fireplace, bonfire bowl; toasting marshmallows, cool nights outside
Sports > Fitness | plastic | weight | non slip, adjustable, foldable, sweat resistant, extra thick, portable
yoga mat; exercise mat, pilates pad; stretching at home, sore knees
dumbbell; hand weight, free weight; building muscle, lifting in the living room
resistance band; stretch band, elastic trainer; physiotherapy, a hotel room workout
jump rope; skipping rope, speed rope; burning calories, boxing practice
foam roller; massage roller, muscle roller; stiff backs, recovering after a run
Sports > Camping | fabric | general | waterproof, lightweight, insulated, windproof, quick setup, packable
tent; camping shelter, canopy; sleeping outdoors, a festival weekend
sleeping bag; camp bed roll, mummy bag; freezing nights, a scout trip
headlamp; head torch, forehead light; reading in the dark, running at night
cooler; ice box, chilly bin; keeping drinks cold, a road trip
Beauty > Skin Care | natural | volume | fragrance free, hydrating, anti aging, brightening, oil free, soothing
face cream; moisturizer, day lotion; dry cheeks, first wrinkles
sunscreen; sun block, spf lotion; avoiding sunburn, a day at sea
face wash; cleanser, facial soap; oily skin, removing makeup
lip balm; chapstick, lip salve; cracked lips, windy ski days
Beauty > Hair Care | natural | volume | sulfate free, anti dandruff, color safe, volumizing, smoothing, repairing
shampoo; hair wash, hair soap; an itchy scalp, washing every day
conditioner; hair rinse, detangler; tangled curls, damaged ends
hair oil; hair serum, scalp oil; frizzy hair, split ends
Toys > Games | toy | age | educational, cooperative, magnetic, travel size, award winning, glow in the dark
board game; tabletop game, family game; a rainy sunday, playing with grandparents
jigsaw puzzle; picture puzzle, brain teaser; a quiet evening, keeping hands busy
building blocks; bricks, construction set; learning shapes, small engineers
card game; deck game, party game; a long train ride, laughing with friends
Toys > Play | toy | age | washable, musical, remote control, soft, interactive, foldable
stuffed animal; plushie, cuddly toy; a baby shower, falling asleep alone
toy car; model vehicle, race car; kids who love traffic, racing on the floor
dollhouse; doll home, play house; role play, a big birthday gift
play tent; teepee, kids fort; hiding indoors, a reading nook for children
Pets > Dogs | fabric | general | washable, chew proof, reflective, orthopedic, no pull, interactive
dog bed; puppy mattress, pet cushion; an old dog with sore hips, a new puppy
dog leash; lead, walking cord; dogs that pull, walking at dusk
chew toy; teether, bite toy; teething puppies, saving your shoes
dog coat; puppy jacket, pet raincoat; walking in snow, short haired breeds
Pets > Cats | fabric | general | washable, self cleaning, odor control, sturdy, interactive, foldable
cat tree; scratching tower, climbing post; indoor climbers, saving the sofa
litter box; kitty toilet, cat pan; a smelly bathroom, shy kittens
cat carrier; pet crate, kitty travel bag; a visit to the vet, flying with a pet
Office > Writing | plastic | pack | refillable, quick dry, erasable, fine point, retractable, smudge proof
ballpoint pen; biro, ink pen; signing papers, taking notes
notebook; journal, writing pad; planning the week, keeping a diary
highlighter; marker, text liner; studying for exams, marking up books
binder; ring folder, file organizer; sorting school sheets, handing in a report
Jewelry > Women & Men | jewel | inch | adjustable, engraved, waterproof, hypoallergenic, handmade, minimalist
necklace; pendant, chain; an anniversary, a graduation present
bracelet; bangle, wristband; a friendship gift, stacking on the wrist
earrings; ear studs, hoops; sensitive ears, a bridal look
wristwatch; timepiece, watch; telling time under water, a retirement gift
"""


@dataclass(frozen=True)
class Kind:
    """One kind of product and the values its attributes can take; an attribute of an item is an index into these."""

    noun: str
    synonyms: tuple[str, ...]
    uses: tuple[str, ...]
    department: str
    category: str
    materials: tuple[str, ...]
    sizes: tuple[str, ...]
    features: tuple[str, ...]
    audiences: int  # the first so many of AUDIENCES; 1: not made for one audience

    @property
    def path(self) -> list[str]:
        return [self.department, self.category, _plural(self.noun).title()]


def _plural(noun: str) -> str:
    if noun.endswith(("ss", "sh", "ch", "x")):
        return f"{noun}es"
    if noun.endswith("shelf"):
        return f"{noun[:-1]}ves"
    return noun if noun.endswith("s") else f"{noun}s"


def _kinds() -> tuple[Kind, ...]:
    kinds = []
    for line in CATALOGUE.strip().splitlines():
        if "|" in line:
            path, materials, sizes, features = (part.strip() for part in line.split("|"))
            department, category = path.split(" > ")
            continue
        noun, synonyms, uses = line.split(";")
        audiences = len(AUDIENCES) if department in ("Clothing", "Shoes") else 1
        lists = _split(MATERIALS[materials]), _split(SIZES[sizes]), _split(features)
        kinds.append(Kind(noun, _split(synonyms), _split(uses), department, category, *lists, audiences))
    return tuple(kinds)


KINDS = _kinds()
